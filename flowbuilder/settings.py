"""Settings. Every ``FLOWBUILDER_*`` variable is described in docs/operations.md; a test keeps them equal."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import environ
from django.core.exceptions import ImproperlyConfigured

from flowbuilder.secrets import load_secrets
from flowbuilder.stack import ISOLATED_MARK as _MARK
from flowbuilder.stack import running_stack
from workflows.keeping import recording_problem, retention_problem

BASE_DIR = Path(__file__).resolve().parent.parent
env = environ.Env()

DATA_DIR = Path(env.str("FLOWBUILDER_DATA_DIR", default="var"))
if not DATA_DIR.is_absolute():
    DATA_DIR = BASE_DIR / DATA_DIR

# ------------------------------------------------------------------ keys and hosts
_secrets = load_secrets(DATA_DIR)
SECRET_KEY = env.str("FLOWBUILDER_SECRET_KEY", default=_secrets["secret_key"])
CREDENTIAL_KEYS: list[str] = env.list("FLOWBUILDER_CREDENTIAL_KEYS", default=_secrets["credential_keys"])
DEBUG = env.bool("FLOWBUILDER_DEBUG", default=False)
PORT = env.int("FLOWBUILDER_PORT", default=8000)
_stack = running_stack(DATA_DIR)
PUBLIC_URL = env.str("FLOWBUILDER_URL", default=_stack.web if _stack else f"http://127.0.0.1:{PORT}").rstrip("/")
NO_BEAT = env.bool("FLOWBUILDER_NO_BEAT", default=False)
ALLOWED_HOSTS: list[str] = env.list("FLOWBUILDER_ALLOWED_HOSTS", default=["127.0.0.1", "localhost", "[::1]"])
CSRF_TRUSTED_ORIGINS: list[str] = env.list("FLOWBUILDER_TRUSTED_ORIGINS", default=[])

# ------------------------------------------------------------------ applications
INSTALLED_APPS = [
    "flowbuilder.apps.FlowBuilderAdminConfig",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "django.contrib.staticfiles",
    "channels",
    "csp",
    "ninja",
    "django_celery_beat",
    "workflows",
    "recordings",
    "executions",
    "monitoring",
    "flowbuilder",
]

MIDDLEWARE = [
    "django.middleware.security.SecurityMiddleware",
    "whitenoise.middleware.WhiteNoiseMiddleware",
    "csp.middleware.CSPMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
]

ROOT_URLCONF = "flowbuilder.urls"
ASGI_APPLICATION = "flowbuilder.asgi.application"

TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "DIRS": [BASE_DIR / "flowbuilder" / "templates"],
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
            ]
        },
    }
]

# ------------------------------------------------------------------ database
DATABASES = {"default": env.db_url("DATABASE_URL", default=f"sqlite:///{DATA_DIR / 'flowbuilder.sqlite3'}")}
SQLITE = DATABASES["default"]["ENGINE"] == "django.db.backends.sqlite3"
if SQLITE:
    DATABASES["default"]["OPTIONS"] = {
        "transaction_mode": "IMMEDIATE",
        "timeout": 20,
        "init_command": "PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL; PRAGMA cache_size=-20000;",
    }
DATABASES["default"]["CONN_MAX_AGE"] = 600
DATABASES["default"]["CONN_HEALTH_CHECKS"] = True
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"

# ------------------------------------------------------------------ redis, celery, channels
REDIS_URL = env.str("REDIS_URL", default="") or (_stack.redis_url if _stack else "redis://127.0.0.1:6379/0")

CELERY_BROKER_URL = env.str("CELERY_BROKER_URL", default=REDIS_URL.replace("unix://", "redis+socket://"))
CELERY_BROKER_CONNECTION_MAX_RETRIES = None  # for ever; by default a worker ends after a hundred
CELERY_RESULT_BACKEND = REDIS_URL.replace("unix://", "redis+socket://")
CELERY_BROKER_TRANSPORT_OPTIONS = {
    "visibility_timeout": 3600,
    "unacked_restore_interval": 5,
    "unacked_restore_throttle": 1,
    "global_keyprefix": "flowbuilder:",
    "socket_timeout": 30,
    "socket_connect_timeout": 5,
    "priority_steps": [0, 5, 9],
}
# Redis serves the smaller number first, RabbitMQ the greater one, and only in queues that were declared so.
_amqp = CELERY_BROKER_URL.startswith(("amqp", "pyamqp"))
MESSAGE_PRIORITIES = {0: 9, 5: 5, 9: 1} if _amqp else {0: 0, 5: 5, 9: 9}
CELERY_TASK_QUEUE_MAX_PRIORITY = 9 if _amqp else None
CELERY_TASK_DEFAULT_PRIORITY = 5
CELERY_RESULT_BACKEND_TRANSPORT_OPTIONS = {"global_keyprefix": "flowbuilder:"}
CELERY_BROKER_CONNECTION_RETRY_ON_STARTUP = True
CELERY_TASK_ACKS_LATE = True
CELERY_TASK_IGNORE_RESULT = True
CELERY_TASK_DEFAULT_QUEUE = "default"
CELERY_TASK_CREATE_MISSING_QUEUES = True
CELERY_TASK_REJECT_ON_WORKER_LOST = True
CELERY_WORKER_PREFETCH_MULTIPLIER = 1
CELERY_WORKER_MAX_TASKS_PER_CHILD = env.int("FLOWBUILDER_ISOLATED_TASKS_PER_CHILD", default=100)
CELERY_WORKER_PROC_ALIVE_TIMEOUT = 60
CELERY_WORKER_CONCURRENCY = env.int("FLOWBUILDER_WORKER_SLOTS", default=8)
CELERY_WORKER_CONSUMER = "executions.consumer:Consumer"
CELERY_WORKER_HIJACK_ROOT_LOGGER = False
CELERY_RESULT_EXPIRES = 3600
CELERY_ACCEPT_CONTENT = ["json"]
CELERY_TASK_SERIALIZER = "json"
CELERY_RESULT_SERIALIZER = "json"
CELERY_TIMEZONE = "UTC"
CELERY_BEAT_SCHEDULER = "executions.beat:WorkflowScheduler"
DJANGO_CELERY_BEAT_TZ_AWARE = True

CHANNEL_LAYERS = {
    "default": {
        "BACKEND": "channels_redis.pubsub.RedisPubSubChannelLayer",
        "CONFIG": {"hosts": [REDIS_URL], "prefix": "flowbuilder"},
    }
}

# ------------------------------------------------------------------ engine
WORKER_SLOTS = CELERY_WORKER_CONCURRENCY
BROWSER_SLOTS = env.int("FLOWBUILDER_BROWSER_SLOTS", default=4)
CHROMIUM = env.str("FLOWBUILDER_CHROMIUM", default="")
EGRESS_ALLOW: list[str] = env.list("FLOWBUILDER_EGRESS_ALLOW", default=[])
EXECUTION_DEADLINE_SECONDS = env.int("FLOWBUILDER_EXECUTION_DEADLINE_SECONDS", default=900)
MINIMUM_INTERVAL_SECONDS = env.int("FLOWBUILDER_MINIMUM_INTERVAL_SECONDS", default=300)
CODE_NODES = env.bool("FLOWBUILDER_CODE_NODES", default=False)
ISOLATED_MEMORY_MB = env.int("FLOWBUILDER_ISOLATED_MEMORY_MB", default=256)
ISOLATED_CPU_SECONDS = env.int("FLOWBUILDER_ISOLATED_CPU_SECONDS", default=120)
ISOLATED_FILE_MB = 1024
ISOLATED_MARK = DATA_DIR / _MARK
MAX_NODES = env.int("FLOWBUILDER_MAX_NODES", default=500)
RECORDING = env.str("FLOWBUILDER_RECORDING", default="all")
if _problem := recording_problem(RECORDING):
    raise ImproperlyConfigured(f"FLOWBUILDER_RECORDING {_problem}")
try:
    RETENTION: dict[str, object] = json.loads(env.str("FLOWBUILDER_RETENTION", default="{}"))
except ValueError as error:
    raise ImproperlyConfigured(f"FLOWBUILDER_RETENTION must be a JSON object: {error}") from error
if _problem := retention_problem(RETENTION):
    raise ImproperlyConfigured(f"FLOWBUILDER_RETENTION {_problem}")
RECORDING_DAYS = env.int("FLOWBUILDER_RECORDING_DAYS", default=30)
EVENT_GRACE_SECONDS = env.int("FLOWBUILDER_EVENT_GRACE_SECONDS", default=3600)
START_WINDOW = env.int("FLOWBUILDER_START_WINDOW", default=200)
if START_WINDOW < 1:
    raise ImproperlyConfigured("FLOWBUILDER_START_WINDOW must be at least 1")
INLINE_OUTPUT_BYTES = 32 * 1024
OUTPUT_LIMIT_BYTES = 16 * 1024 * 1024
DEAD_LETTER_DAYS = env.int("FLOWBUILDER_DEAD_LETTER_DAYS", default=14)
DRAIN_SECONDS = env.float("FLOWBUILDER_DRAIN_SECONDS", default=20.0)
RECONCILE_OFF: list[str] = env.list("FLOWBUILDER_RECONCILE_OFF", default=[])
LEASE_SECONDS = env.int("FLOWBUILDER_LEASE_SECONDS", default=15)
if LEASE_SECONDS < 3:
    raise ImproperlyConfigured(
        "FLOWBUILDER_LEASE_SECONDS must be at least 3; a lease is renewed three times in its life"
    )
HEARTBEAT_SECONDS = LEASE_SECONDS / 3

try:
    WORKFLOW_VARS: dict[str, object] = _stack.variables if _stack else {}
    WORKFLOW_VARS |= json.loads(env.str("FLOWBUILDER_VARS", default="{}"))
except (ValueError, TypeError) as error:
    raise ImproperlyConfigured(f"FLOWBUILDER_VARS must be a JSON object: {error}") from error

# ------------------------------------------------------------------ files
STATIC_URL = "static/"
STATIC_ROOT = DATA_DIR / "static"
STATIC_ROOT.mkdir(parents=True, exist_ok=True)  # whitenoise warns when it is missing
WHITENOISE_USE_FINDERS = True
WHITENOISE_AUTOREFRESH = True  # sizes kept from the start would break files that an update changes; costs 0.1 ms each
WHITENOISE_MANIFEST_STRICT = False
_BLOBS = (
    {"BACKEND": "django.core.files.storage.FileSystemStorage", "OPTIONS": {"location": DATA_DIR / "blobs"}}
    if SQLITE
    else {"BACKEND": "recordings.database.DatabaseFileStorage"}
)
STORAGES = {
    "default": {"BACKEND": "django.core.files.storage.FileSystemStorage", "OPTIONS": {"location": DATA_DIR / "files"}},
    "staticfiles": {"BACKEND": "django.contrib.staticfiles.storage.StaticFilesStorage"},
    "blobs": _BLOBS,
}

# ------------------------------------------------------------------ people and pages
LOGIN_URL = "admin:login"
LOGIN_REDIRECT_URL = "admin:index"
AUTH_PASSWORD_VALIDATORS = [
    {"NAME": "django.contrib.auth.password_validation.UserAttributeSimilarityValidator"},
    {"NAME": "django.contrib.auth.password_validation.MinimumLengthValidator"},
    {"NAME": "django.contrib.auth.password_validation.CommonPasswordValidator"},
]
USE_TZ = True
TIME_ZONE = "UTC"
LANGUAGE_CODE = "en-us"
FORMAT_MODULE_PATH = ["flowbuilder.formats"]
USE_I18N = True

X_FRAME_OPTIONS = "DENY"
SECURE_REFERRER_POLICY = "same-origin"
SESSION_COOKIE_HTTPONLY = True
SESSION_COOKIE_SECURE = CSRF_COOKIE_SECURE = env.bool("FLOWBUILDER_HTTPS", default=False)
DATA_UPLOAD_MAX_MEMORY_SIZE = 10 * 1024 * 1024
CONTENT_SECURITY_POLICY = {
    "DIRECTIVES": {
        "default-src": ["'self'"],
        # The one inline script of the pages: django-celery-beat's form, for people who may edit and who may only view.
        "script-src": [
            "'self'",
            "'sha256-QE3U2xYF7B4J2ro1/9oxiKhaWCGW39gB7ocQ/xlD0bE='",
            "'sha256-o2nXMH95/W6D9uJSLFElApQza1lGe5mOA+nyUrmktL4='",
        ],
        "img-src": ["'self'", "data:", "blob:"],
        "connect-src": ["'self'"],
        "object-src": ["'none'"],
        "base-uri": ["'self'"],
        "form-action": ["'self'"],
        "frame-ancestors": ["'none'"],
    }
}

# ------------------------------------------------------------------ logs
LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "formatters": {"plain": {"format": "%(asctime)s %(levelname)s %(name)s: %(message)s"}},
    "handlers": {"stderr": {"class": "logging.StreamHandler", "formatter": "plain", "stream": sys.stderr}},
    "root": {"handlers": ["stderr"], "level": env.str("FLOWBUILDER_LOG_LEVEL", default="INFO")},
    "loggers": {
        "httpx": {"level": "WARNING"},
        # One traceback a second while Redis is away; monitoring.feed says it in one line.
        "channels_redis": {"level": "CRITICAL"},
        "django.request": {"level": "ERROR"},
    },
}
