"""Processes tell how full their machine is."""

from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("executions", "0015_samples")]

    operations = [
        migrations.AddField("workerlease", "disk_percent", models.FloatField(blank=True, null=True)),
        migrations.AddField("workerlease", "memory_percent", models.FloatField(blank=True, null=True)),
    ]
