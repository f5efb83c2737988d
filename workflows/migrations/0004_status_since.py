"""Since when a workflow has its status, and why; versions get the hash that knows schedules and no order of edges."""

from django.db import migrations, models


def rehash(apps, schema_editor):
    """Compute the hash of every version anew; one that cannot be read keeps what it has."""
    from workflows.definition import content_hash

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
