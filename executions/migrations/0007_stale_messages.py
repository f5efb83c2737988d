"""Workers count the messages that found nothing to do."""

from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("executions", "0006_dead_letters")]

    operations = [
        migrations.AddField("workerlease", "stale", models.BigIntegerField(db_default=0, default=0)),
    ]
