from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('recordings', '0003_recording_details'),
    ]

    operations = [
        migrations.AddField(
            model_name='recording',
            name='written_at',
            field=models.DateTimeField(blank=True, null=True),
        ),
    ]
