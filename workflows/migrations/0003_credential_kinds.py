"""Credentials of kinds that have another name now."""

from django.db import migrations

NAMES = {"token": "bearer", "generic": "custom"}


def rename(apps, schema_editor):
    rows = apps.get_model("workflows", "Credential").objects
    for old, new in NAMES.items():
        rows.filter(kind=old).update(kind=new)


class Migration(migrations.Migration):

    dependencies = [("workflows", "0002_tokens_credits_plans_audit")]

    operations = [migrations.RunPython(rename, migrations.RunPython.noop)]
