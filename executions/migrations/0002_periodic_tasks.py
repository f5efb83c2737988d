"""The jobs that every installation has, as rows of the beat admin, where they can be seen and changed."""

from django.db import migrations

INTERVAL_JOBS = (
    ("Reconcile executions", "executions.reconcile", 2, "seconds",
     "Sets going again what a lost process or message left behind. Runs inside beat itself."),
    ("Seal recordings", "recordings.seal", 15, "seconds", "Packs the events of ended executions."),
    ("Remove sealed events", "recordings.purge_events", 10, "minutes",
     "Removes event rows after their recording was sealed and the grace period passed."),
)
NIGHTLY_JOBS = (
    ("Recording retention", "recordings.retention", "30", "3", "Removes recordings that are older than the policy keeps."),
)


def create(apps, schema_editor):
    IntervalSchedule = apps.get_model("django_celery_beat", "IntervalSchedule")
    CrontabSchedule = apps.get_model("django_celery_beat", "CrontabSchedule")
    PeriodicTask = apps.get_model("django_celery_beat", "PeriodicTask")
    for name, task, every, period, description in INTERVAL_JOBS:
        interval, _ = IntervalSchedule.objects.get_or_create(every=every, period=period)
        PeriodicTask.objects.get_or_create(
            name=name, defaults={"task": task, "interval": interval, "description": description, "queue": "control"}
        )
    for name, task, minute, hour, description in NIGHTLY_JOBS:
        crontab, _ = CrontabSchedule.objects.get_or_create(
            minute=minute, hour=hour, day_of_week="*", day_of_month="*", month_of_year="*", timezone="UTC"
        )
        PeriodicTask.objects.get_or_create(
            name=name, defaults={"task": task, "crontab": crontab, "description": description, "queue": "control"}
        )


def remove(apps, schema_editor):
    PeriodicTask = apps.get_model("django_celery_beat", "PeriodicTask")
    PeriodicTask.objects.filter(name__in=[job[0] for job in (*INTERVAL_JOBS, *NIGHTLY_JOBS)]).delete()


class Migration(migrations.Migration):
    dependencies = [
        ("executions", "0001_initial"),
        ("django_celery_beat", "0019_alter_periodictasks_options"),
    ]

    operations = [migrations.RunPython(create, remove)]
