"""Workers count the pages that they opened and how often they started Chromium for them."""

from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("executions", "0010_started_by")]

    operations = [
        migrations.AddField("workerlease", "pages", models.BigIntegerField(db_default=0, default=0)),
        migrations.AddField("workerlease", "chromium_starts", models.BigIntegerField(db_default=0, default=0)),
    ]
