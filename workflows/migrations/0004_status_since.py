"""Since when a workflow has its status, and why; versions get the hash that knows schedules and no order of edges."""

import hashlib
import json

from django.db import migrations, models


def content_hash(data):
    """Return the hash of a definition as it was computed when this migration was written."""
    body = {key: plain(data[key]) for key in ("nodes", "vars", "cron") if data.get(key)}
    if edges := data.get("edges"):
        body["edges"] = sorted(canonical({**edge, "id": None}) for edge in edges)
    settings = dict(data["settings"]) if isinstance(data.get("settings"), dict) else {}
    tags = data.get("tags")
    if isinstance(tags, list) and tags and not settings.get("tags"):
        settings["tags"] = tags
    if settings:
        body["settings"] = plain(settings)
    if data.get("cron") and (data.get("timezone") or "UTC") != "UTC":
        body["timezone"] = data["timezone"]
    return hashlib.sha256(canonical(body).encode()).hexdigest()


def canonical(value):
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)


def plain(value):
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if isinstance(value, dict):
        return {key: plain(child) for key, child in value.items()}
    if isinstance(value, list):
        return [plain(child) for child in value]
    return value


def rehash(apps, schema_editor):
    """Compute the hash of every version anew; one that cannot be read keeps what it has."""
    versions = apps.get_model("workflows", "WorkflowVersion").objects
    for version in versions.only("definition", "content_hash").iterator(chunk_size=50):
        try:
            new = content_hash(version.definition)
        except (TypeError, AttributeError, KeyError):
            continue
        if new != version.content_hash:
            versions.filter(pk=version.pk).update(content_hash=new)


class Migration(migrations.Migration):

    dependencies = [
        ('workflows', '0003_credential_kinds'),
    ]

    operations = [
        migrations.AddField(
            model_name='workflow',
            name='status_at',
            field=models.DateTimeField(blank=True, editable=False, help_text='Since when it has this status.', null=True),
        ),
        migrations.AddField(
            model_name='workflow',
            name='status_reason',
            field=models.CharField(blank=True, default='', editable=False, help_text='Why, when nobody asked for it.', max_length=300),
            preserve_default=False,
        ),
        migrations.RunPython(rehash, migrations.RunPython.noop),
    ]
