"""Settings. Every ``FLOWBUILDER_*`` variable is described in docs/operations.md; a test keeps them equal."""

from __future__ import annotations

import sys
from importlib.util import find_spec
from pathlib import Path

from django.core.exceptions import ImproperlyConfigured

from flowbuilder import variables
from flowbuilder.rates import read_rate
from flowbuilder.secrets import load_secrets
from flowbuilder.stack import ISOLATED_MARK as _MARK
from flowbuilder.stack import running_stack
from workflows.keeping import recording_problem, retention_problem

BASE_DIR = Path(__file__).resolve().parent.parent

DATA_DIR = Path(variables.text("FLOWBUILDER_DATA_DIR", "var"))
if not DATA_DIR.is_absolute():
    DATA_DIR = BASE_DIR / DATA_DIR

# ------------------------------------------------------------------ keys and hosts
_secrets = load_secrets(DATA_DIR)
SECRET_KEY = variables.text("FLOWBUILDER_SECRET_KEY", _secrets["secret_key"])
CREDENTIAL_KEYS: list[str] = variables.keys("FLOWBUILDER_CREDENTIAL_KEYS", _secrets["credential_keys"])
DEBUG = variables.flag("FLOWBUILDER_DEBUG")
PORT = variables.whole("FLOWBUILDER_PORT", 8000, least=1, most=65535)
_stack = running_stack(DATA_DIR)
PUBLIC_URL = variables.address("FLOWBUILDER_URL", _stack.web if _stack else f"http://127.0.0.1:{PORT}")
NO_BEAT = variables.flag("FLOWBUILDER_NO_BEAT")
ALLOWED_HOSTS: list[str] = variables.listed("FLOWBUILDER_ALLOWED_HOSTS", ["127.0.0.1", "localhost", "[::1]"])
CSRF_TRUSTED_ORIGINS: list[str] = variables.listed("FLOWBUILDER_TRUSTED_ORIGINS")
TRUSTED_PROXIES: list[str] = variables.networks("FLOWBUILDER_TRUSTED_PROXIES")

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
    "flowbuilder.doors.DoorMiddleware",
]


def _files_of(package: str, folder: str) -> list[Path]:
    """Return ``folder`` of a package that is no application here: as one it would be loaded by every process."""
    found = find_spec(package)
    return [Path(root) / folder for root in (found and found.submodule_search_locations) or ()]


ROOT_URLCONF = "flowbuilder.urls"
ASGI_APPLICATION = "flowbuilder.asgi.application"

TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "DIRS": [BASE_DIR / "flowbuilder" / "templates", *_files_of("ninja", "templates")],
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
DATABASES = {"default": variables.database("DATABASE_URL", f"sqlite:///{DATA_DIR / 'flowbuilder.sqlite3'}")}
SQLITE = DATABASES["default"]["ENGINE"] == "django.db.backends.sqlite3"
if SQLITE:
    DATABASES["default"]["OPTIONS"] = {
        "transaction_mode": "IMMEDIATE",
        "timeout": 20,
        "init_command": "PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL; PRAGMA cache_size=-20000;",
    }
_connect_seconds = variables.whole("FLOWBUILDER_DATABASE_CONNECT_SECONDS", 10, least=2, most=300)
if not SQLITE:
    DATABASES["default"].setdefault("OPTIONS", {}).setdefault("connect_timeout", _connect_seconds)
DATABASES["default"]["CONN_MAX_AGE"] = 600
DATABASES["default"]["CONN_HEALTH_CHECKS"] = True
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"

# ------------------------------------------------------------------ redis, celery, channels
REDIS_URL = variables.text("REDIS_URL") or (_stack.redis_url if _stack else "redis://127.0.0.1:6379/0")

CELERY_BROKER_URL = variables.text("CELERY_BROKER_URL", REDIS_URL.replace("unix://", "redis+socket://"))
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
CELERY_WORKER_MAX_TASKS_PER_CHILD = variables.whole("FLOWBUILDER_ISOLATED_TASKS_PER_CHILD", 100, least=1)
CELERY_WORKER_PROC_ALIVE_TIMEOUT = 60
CELERY_WORKER_CONCURRENCY = variables.whole("FLOWBUILDER_WORKER_SLOTS", 8, least=1)
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
BROWSER_SLOTS = variables.whole("FLOWBUILDER_BROWSER_SLOTS", 4, least=1)
CHROMIUM = variables.text("FLOWBUILDER_CHROMIUM")
REMOTE_BROWSER = variables.endpoint("FLOWBUILDER_REMOTE_BROWSER", "wss://brd.superproxy.io:9222")
EGRESS_ALLOW: list[str] = variables.listed("FLOWBUILDER_EGRESS_ALLOW")
MAIL_SERVER = variables.mail_server("FLOWBUILDER_MAIL_URL")
_login = (MAIL_SERVER or {}).get("username", "")
MAIL_FROM = variables.mail_address("FLOWBUILDER_MAIL_FROM", _login if "@" in _login else "flow-builder@localhost")
ALERT_MESSAGES = variables.whole("FLOWBUILDER_ALERT_MESSAGES", 100)
ALERT_SECONDS = variables.number("FLOWBUILDER_ALERT_SECONDS", 10, least=0.1, most=300)
EXECUTION_DEADLINE_SECONDS = variables.whole("FLOWBUILDER_EXECUTION_DEADLINE_SECONDS", 900, least=1)
MINIMUM_INTERVAL_SECONDS = variables.whole("FLOWBUILDER_MINIMUM_INTERVAL_SECONDS", 300)
CODE_NODES = variables.flag("FLOWBUILDER_CODE_NODES")
ISOLATED_MEMORY_MB = variables.whole("FLOWBUILDER_ISOLATED_MEMORY_MB", 256, least=1)
ISOLATED_CPU_SECONDS = variables.whole("FLOWBUILDER_ISOLATED_CPU_SECONDS", 120, least=1)
ISOLATED_FILE_MB = 1024
ISOLATED_MARK = DATA_DIR / _MARK
variables.number("FLOWBUILDER_ISOLATED_IDLE_SECONDS", 900)  # the supervisor's, who has no Django to refuse it with
MAX_NODES = variables.whole("FLOWBUILDER_MAX_NODES", 500, least=1)
MAX_EDGES = variables.whole("FLOWBUILDER_MAX_EDGES", 2000, least=1)
MAX_DEPTH = variables.whole("FLOWBUILDER_MAX_DEPTH", 500, least=1)
MAX_DEFINITION_BYTES = variables.whole("FLOWBUILDER_MAX_DEFINITION_BYTES", 1048576, least=1000)
MAX_PAYLOAD_BYTES = variables.whole("FLOWBUILDER_MAX_PAYLOAD_BYTES", 262144, least=1000)
MAX_BROWSER_SESSIONS = variables.whole("FLOWBUILDER_MAX_BROWSER_SESSIONS", 10, least=1)
MAX_CREDITS = variables.whole("FLOWBUILDER_MAX_CREDITS", 0)
CREDIT_COSTS = variables.amounts("FLOWBUILDER_CREDIT_COSTS")
DEFAULT_CREDITS = variables.amount("FLOWBUILDER_DEFAULT_CREDITS")
MAX_DURATION_SECONDS = variables.limit("FLOWBUILDER_MAX_DURATION_SECONDS")
USER_WORKFLOWS = variables.limit("FLOWBUILDER_USER_WORKFLOWS")
USER_EXECUTIONS = variables.limit("FLOWBUILDER_USER_EXECUTIONS")
USER_BROWSERS = variables.limit("FLOWBUILDER_USER_BROWSERS")
USER_RECORDINGS = variables.limit("FLOWBUILDER_USER_RECORDINGS")
RECORDING = variables.text("FLOWBUILDER_RECORDING", "all")
if _problem := recording_problem(RECORDING):
    raise ImproperlyConfigured(f"FLOWBUILDER_RECORDING {_problem}")
RETENTION = variables.json_object("FLOWBUILDER_RETENTION")
if _problem := retention_problem(RETENTION):
    raise ImproperlyConfigured(f"FLOWBUILDER_RETENTION {_problem}")
RECORDING_DAYS = variables.whole("FLOWBUILDER_RECORDING_DAYS", 30)
EVENT_GRACE_SECONDS = variables.whole("FLOWBUILDER_EVENT_GRACE_SECONDS", 3600)
START_WINDOW = variables.whole("FLOWBUILDER_START_WINDOW", 200, least=1)
INLINE_OUTPUT_BYTES = 32 * 1024
OUTPUT_LIMIT_BYTES = 16 * 1024 * 1024
NODE_LOG_LINES = variables.whole("FLOWBUILDER_NODE_LOG_LINES", 200000, least=1)
NODE_LOG_MB = variables.number("FLOWBUILDER_NODE_LOG_MB", 64, least=0.001)
NODE_LOG_RATE = read_rate(variables.rate("FLOWBUILDER_NODE_LOG_RATE", "60000/min"))
DEAD_LETTER_DAYS = variables.whole("FLOWBUILDER_DEAD_LETTER_DAYS", 14)
DRAIN_SECONDS = variables.number("FLOWBUILDER_DRAIN_SECONDS", 20.0)
RECONCILE_OFF: list[str] = variables.listed("FLOWBUILDER_RECONCILE_OFF")
LEASE_SECONDS = variables.whole("FLOWBUILDER_LEASE_SECONDS", 15, least=3)  # renewed three times in its life
HEARTBEAT_SECONDS = LEASE_SECONDS / 3

WORKFLOW_VARS: dict[str, object] = (_stack.variables if _stack else {}) | variables.json_object("FLOWBUILDER_VARS")

# ------------------------------------------------------------------ files
STATIC_URL = "static/"
STATICFILES_DIRS = _files_of("ninja", "static")
STATIC_ROOT = variables.directory(DATA_DIR / "static")  # whitenoise warns when it is missing
WHITENOISE_USE_FINDERS = True
WHITENOISE_AUTOREFRESH = True  # sizes kept from the start would break files that an update changes; costs 0.1 ms each
WHITENOISE_MANIFEST_STRICT = False
_BLOBS = (
    {"BACKEND": "django.core.files.storage.FileSystemStorage", "OPTIONS": {"location": DATA_DIR / "blobs"}}
    if SQLITE
    else {"BACKEND": "recordings.blobs.DatabaseFileStorage"}
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
METRICS_TOKEN = variables.text("FLOWBUILDER_METRICS_TOKEN")
API_RATE = variables.rate("FLOWBUILDER_API_RATE", "6000/min")
START_RATE = variables.rate("FLOWBUILDER_START_RATE", "2000/min")
WEBHOOK_RATE = variables.rate("FLOWBUILDER_WEBHOOK_RATE", "600/min")
LOGIN_RATE = variables.rate("FLOWBUILDER_LOGIN_RATE", "10/min")
USER_SOCKETS = variables.whole("FLOWBUILDER_USER_SOCKETS", 500, least=1)
SOCKET_CHECK_SECONDS = variables.number("FLOWBUILDER_SOCKET_CHECK_SECONDS", 60, least=0.1)
USE_TZ = True
TIME_ZONE = "UTC"
LANGUAGE_CODE = "en-us"
FORMAT_MODULE_PATH = ["flowbuilder.formats"]
USE_I18N = True

X_FRAME_OPTIONS = "DENY"
SECURE_REFERRER_POLICY = "same-origin"
SESSION_COOKIE_HTTPONLY = True
SESSION_COOKIE_SECURE = CSRF_COOKIE_SECURE = variables.flag("FLOWBUILDER_HTTPS")
EXAMPLES = BASE_DIR / "flowbuilder" / "demo" / "workflows"
DATA_UPLOAD_MAX_MEMORY_SIZE = max(10 * 1024 * 1024, 2 * MAX_DEFINITION_BYTES)  # as a form, JSON takes more room
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
LOG_FORMAT = variables.choice("FLOWBUILDER_LOG_FORMAT", "PLAIN", ("PLAIN", "JSON")).lower()
_LEVELS = ("DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL")
_SERVER = ("uvicorn", "uvicorn.error", "uvicorn.access")
LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "formatters": {
        "chosen": {"()": "flowbuilder.json_lines.JsonLines"}
        if LOG_FORMAT == "json"
        else {"format": "%(asctime)s %(levelname)s %(name)s: %(message)s"},
    },
    "handlers": {"stderr": {"class": "logging.StreamHandler", "formatter": "chosen", "stream": sys.stderr}},
    "root": {"handlers": ["stderr"], "level": variables.choice("FLOWBUILDER_LOG_LEVEL", "INFO", _LEVELS)},
    "loggers": {
        "httpx": {"level": "WARNING"},
        # One traceback a second while Redis is away; monitoring.feed says it in one line.
        "channels_redis": {"level": "CRITICAL"},
        "django.request": {"level": "ERROR"},
        # The web server has handlers of its own, which write plain text.
        **({name: {"handlers": [], "propagate": True} for name in _SERVER} if LOG_FORMAT == "json" else {}),
    },
}
