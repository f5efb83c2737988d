"""A node run says what it used of processor and memory."""

from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("executions", "0014_lost_workers")]

    operations = [
        migrations.AddField("noderun", "cpu_seconds", models.FloatField(blank=True, null=True)),
        migrations.AddField("noderun", "peak_memory_bytes", models.BigIntegerField(blank=True, null=True)),
    ]
