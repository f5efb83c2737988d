"""Dead letters name their workflow, and old ones are removed every night."""

import json

import django.db.models.deletion
from django.db import migrations, models

NAME = "Remove old dead letters"


def fill(apps, schema_editor):
    DeadLetter = apps.get_model("executions", "DeadLetter")
    Workflow = apps.get_model("workflows", "Workflow")
    for letter in DeadLetter.objects.select_related("execution"):
        wanted = letter.execution.workflow_id if letter.execution else json.loads(letter.payload).get("workflow_id")
        letter.workflow = Workflow.objects.filter(pk=wanted).first() if wanted else None
        letter.save(update_fields=["workflow"])


def create(apps, schema_editor):
    crontab, _ = apps.get_model("django_celery_beat", "CrontabSchedule").objects.get_or_create(
        minute="45", hour="3", day_of_week="*", day_of_month="*", month_of_year="*", timezone="UTC"
    )
    apps.get_model("django_celery_beat", "PeriodicTask").objects.get_or_create(
        name=NAME,
        defaults={
            "task": "executions.purge_dead_letters", "crontab": crontab, "queue": "control",
            "description": "Removes dead letters that are older than FLOWBUILDER_DEAD_LETTER_DAYS.",
        },
    )


def remove(apps, schema_editor):
    apps.get_model("django_celery_beat", "PeriodicTask").objects.filter(name=NAME).delete()


class Migration(migrations.Migration):
    dependencies = [
        ("executions", "0005_execution_variables"),
        ("workflows", "0001_initial"),
        ("django_celery_beat", "0019_alter_periodictasks_options"),
    ]

    operations = [
        migrations.AddField(
            "deadletter",
            "workflow",
            models.ForeignKey(
                blank=True, null=True, on_delete=django.db.models.deletion.CASCADE, related_name="dead_letters",
                to="workflows.workflow",
            ),
        ),
        migrations.RunPython(fill, migrations.RunPython.noop),
        migrations.RunPython(create, remove),
    ]
