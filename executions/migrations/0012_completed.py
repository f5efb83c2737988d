"""The last executions of a workflow that completed are found by an index: how long its nodes run is read from them."""

from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("executions", "0011_browser_use")]

    operations = [
        migrations.AddIndex(
            "execution",
            models.Index(
                condition=models.Q(("status", "completed")),
                fields=["workflow", "scope", "-finished_at"],
                name="execution_completed",
            ),
        ),
    ]
