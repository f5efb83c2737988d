from typing import Any

from django.db import migrations, models

from workflows.models import hashes


def note_present(apps: Any, schema_editor: Any) -> None:
    """Take what is stored as what the newest version was made with: nothing tells otherwise."""
    workflows = apps.get_model("workflows", "Workflow").objects.using(schema_editor.connection.alias)
    for workflow in workflows.only("name", "description", "settings").iterator():
        workflows.filter(pk=workflow.pk).update(seen_with_draft=hashes(workflow))


class Migration(migrations.Migration):

    dependencies = [
        ('workflows', '0007_webhooks'),
    ]

    operations = [
        migrations.AddField(
            model_name='workflow',
            name='seen_with_draft',
            field=models.JSONField(default=dict, editable=False),
        ),
        migrations.RunPython(note_present, migrations.RunPython.noop, elidable=True),
    ]
