"""Executions know what was reserved for them."""

from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("executions", "0008_roots_and_statistics")]

    operations = [
        migrations.AddField("execution", "reserved", models.BigIntegerField(null=True, blank=True)),
    ]
