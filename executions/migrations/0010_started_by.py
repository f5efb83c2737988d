"""Executions belong to the owner of their workflow; who started them is noted apart."""

from django.conf import settings
from django.db import migrations, models
from django.db.models import F


def started_by_owner(apps, schema_editor):
    """Until now whoever started an execution was its owner; schedules did so for the owner."""
    rows = apps.get_model("executions", "Execution").objects.filter(parent=None)
    rows.exclude(trigger__in=("scheduled", "workflow")).update(started_by=F("owner"))


class Migration(migrations.Migration):
    dependencies = [
        ("executions", "0009_reserved_credits"),
        migrations.swappable_dependency(settings.AUTH_USER_MODEL),
    ]

    operations = [
        migrations.AddField(
            "execution",
            "started_by",
            models.ForeignKey(
                settings.AUTH_USER_MODEL,
                null=True,
                blank=True,
                on_delete=models.SET_NULL,
                related_name="+",
                db_index=False,
            ),
        ),
        migrations.RemoveConstraint("execution", "one_execution_per_key"),
        migrations.AddConstraint(
            "execution",
            models.UniqueConstraint(fields=("started_by", "idempotency_key"), name="one_execution_per_key"),
        ),
        migrations.RunPython(started_by_owner, migrations.RunPython.noop, elidable=True),
    ]
