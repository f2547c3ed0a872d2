"""Every setting: name, unit, range, default and the reason for it.

This is the only module that reads the environment. Sources, the first that names a setting wins:
arguments, environment, `.env` in the working directory, `platform.env` in the data directory
(written by the running platform, so that commands and applications beside it find it), default.
`ClientSettings` is what a producer needs; `Settings` adds what the server needs.

Length: every setting stands in one list, so that a reader finds name, range, default and reason
in one place.
"""

import os
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, SecretStr, ValidationError
from pydantic_settings import (
    BaseSettings,
    DotEnvSettingsSource,
    EnvSettingsSource,
    InitSettingsSource,
    NoDecode,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
)

from audit_platform.errors import InvalidSetting

ENV_PREFIX = "AUDIT_"
DEFAULT_DATA_DIR = Path(".audit-platform")
PLATFORM_ENV = "platform.env"
MEBIBYTE = 1 << 20
ARCHIVE_URL = r"^(file:///.+|s3://[^/@]+(/.*)?)$"


def _split(value: str | tuple[str, ...]) -> tuple[str, ...]:
    if isinstance(value, tuple):
        return value
    return tuple(part.strip() for part in value.split(",") if part.strip())


class BatchPreset(StrEnum):
    """When a producer flushes; figures in `events/policy.py`."""

    ADAPTIVE = "adaptive"
    LOW = "low"
    MEDIUM = "medium"
    HIGH = "high"


class ClientSettings(BaseSettings):
    """What an application that logs needs."""

    model_config = SettingsConfigDict(
        env_prefix=ENV_PREFIX, env_file=".env", extra="ignore", frozen=True, validate_default=False
    )

    redis_url: SecretStr = Field(
        SecretStr("redis://127.0.0.1:26379/0"),
        description="Redis that takes the events; the user needs XADD only",
    )
    key_prefix: Annotated[str, Field(pattern=r"^[A-Za-z0-9:_-]{1,64}$")] = Field(
        "audit", description="first part of every Redis key"
    )
    shards: int = Field(1, ge=1, le=256, description="number of streams; a tenant stays on one")
    tenant_id: str = Field(
        "default", min_length=1, max_length=100, description="tenant of events that name none"
    )
    source: str = Field(
        "user", min_length=1, max_length=64, description="source of events that name none"
    )
    producer_name: str | None = Field(
        None, max_length=200, description="stable name of this producer; default: program and host"
    )
    app: str | None = Field(None, description="written to context.app of every event")
    app_version: str | None = Field(
        None, description="written to context.app_version of every event"
    )
    environment: str | None = Field(
        None, description="written to context.environment of every event"
    )
    batch_preset: BatchPreset = Field(
        BatchPreset.ADAPTIVE, description="when the producer flushes: adaptive, low, medium or high"
    )
    batch_size: int | None = Field(
        None, ge=1, le=1_000, description="events per flush; overrides the preset"
    )
    batch_interval_ms: int | None = Field(
        None, ge=1, le=60_000, description="longest wait before a flush; overrides the preset"
    )
    buffer_events: int = Field(
        10_000, ge=100, le=1_000_000, description="events the producer buffers at most"
    )
    buffer_bytes: int = Field(
        16 * MEBIBYTE, ge=MEBIBYTE, description="bytes the producer buffers at most"
    )
    redis_timeout_ms: int = Field(
        1_000, ge=10, le=60_000, description="longest wait of the sender for one Redis reply"
    )
    close_timeout_s: float = Field(
        10, ge=0, le=300, description="longest drain at exit and on SIGTERM; the design allows 10 s"
    )
    redact_keys: Annotated[tuple[str, ...], NoDecode, BeforeValidator(_split)] = Field(
        (), description="further key names to redact, comma-separated"
    )
    data_dir: Path = Field(
        DEFAULT_DATA_DIR,
        description="where the embedded services keep everything, and producers their spool",
    )
    spool_dir: Path | None = Field(
        None, description="disk spool of the producers; default: `spool` in AUDIT_DATA_DIR"
    )
    spool_max_bytes: int = Field(
        4 << 30,
        ge=MEBIBYTE,
        description="bytes of one producer's spool at most; half of it is kept for `durable`",
    )
    # A day repairs a PostgreSQL failover to an older state, if somebody notices within that day.
    spool_retain_s: float = Field(
        86_400, ge=0, description="how long confirmed `durable` events stay in the spool"
    )
    resend_window_bytes: int = Field(
        32 * MEBIBYTE,
        ge=MEBIBYTE,
        description="bytes that wait in memory for the database's confirmation; more goes to disk",
    )
    resend_after_s: float = Field(
        30, ge=0.1, le=3_600, description="an event unconfirmed for so long is sent again"
    )
    durable_timeout_s: float = Field(
        5, ge=0, le=300, description="longest wait of a `durable` call for room in the spool"
    )
    policies_file: Path | None = Field(
        None, description="YAML file with policies per source and action; read again on change"
    )

    @classmethod
    def settings_customise_sources(  # noqa: D102 - documented by pydantic-settings
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        del file_secret_settings
        platform_env = _data_dir(init_settings, dotenv_settings) / PLATFORM_ENV
        running = DotEnvSettingsSource(settings_cls, env_file=platform_env)
        return (init_settings, env_settings, dotenv_settings, running)

    def __init__(self, **values: Any) -> None:
        """Read all sources.

        Raises:
            InvalidSetting: Names the variable, the problem and the accepted range.
        """
        try:
            super().__init__(**values)
        except ValidationError as exc:
            raise _invalid_setting(exc) from exc


class Settings(ClientSettings):
    """What the server needs beside the producer's settings."""

    database_url: SecretStr | None = Field(
        None, description="PostgreSQL to use, as an administrator; empty: the embedded one"
    )
    # An environment gives text, which Literal would not take for a number.
    postgres_version: Annotated[
        Literal[16, 18], BeforeValidator(lambda value: {"16": 16, "18": 18}.get(value, value))
    ] = Field(18, description="embedded PostgreSQL: 18 or 16")
    host: str = Field(
        "127.0.0.1", description="address of the embedded services; Dagster has no login"
    )
    # Below 32768, outside the ephemeral range, so that no outgoing connection holds the port.
    postgres_port: int = Field(
        25_432, ge=0, le=65_535, description="port of the embedded PostgreSQL; 0: any free"
    )
    redis_port: int = Field(
        26_379, ge=0, le=65_535, description="port of the embedded Redis; 0: any free"
    )
    webserver_port: int = Field(
        3_000, ge=0, le=65_535, description="port of the Dagster UI; 0: any free"
    )
    writer_url: SecretStr | None = Field(
        None, description="PostgreSQL as audit_writer: the ingest job"
    )
    reader_url: SecretStr | None = Field(
        None, description="PostgreSQL as audit_reader: searches of one tenant"
    )
    maint_url: SecretStr | None = Field(
        None, description="PostgreSQL as audit_maint: partitions, operators"
    )
    dagster_url: SecretStr | None = Field(None, description="PostgreSQL database of Dagster")
    redis_consumer_url: SecretStr | None = Field(
        None, description="Redis as consumer; default: AUDIT_REDIS_URL"
    )
    redis_sensor_url: SecretStr | None = Field(
        None, description="Redis as sensor; default: AUDIT_REDIS_URL"
    )
    redis_janitor_url: SecretStr | None = Field(
        None, description="Redis as janitor; default: AUDIT_REDIS_URL"
    )
    redis_maxmemory_bytes: int = Field(
        512 * MEBIBYTE,
        ge=16 * MEBIBYTE,
        description="memory of the embedded Redis; about 310 bytes an event",
    )
    dead_letter_key: SecretStr | None = Field(
        None, description="32 bytes, base64: encrypts dead letters; the platform makes one"
    )
    cursor_key: SecretStr | None = Field(
        None, description="32 bytes, base64: signs search cursors; the platform makes one"
    )
    # 20,000 rows are about 7 MB: one COPY of roughly 0.3 s, two of them in memory at a time.
    drain_batch_rows: int = Field(20_000, ge=1, le=200_000, description="rows of one COPY at most")
    drain_batch_bytes: int = Field(
        16 * MEBIBYTE, ge=65_536, description="event bytes of one COPY at most"
    )
    # 200 ms keeps a quiet stream at five commits a second and leaves 0.8 s of the 1 s target.
    drain_interval_ms: int = Field(
        200, ge=1, le=60_000, description="longest wait of an event for its COPY"
    )
    # One COPY keeps one core busy; the second begins while the first commits.
    drain_connections: int = Field(
        2, ge=1, le=8, description="batches that a drain run stores at the same time"
    )
    drain_idle_s: float = Field(
        30, ge=1, le=3_600, description="a drain run ends after this time without events"
    )
    # Each run leaves about 35 KB in Dagster's storage: one event a minute would start 1,440 a day.
    drain_idle_longest_s: float = Field(
        300,
        ge=0,
        le=3_600,
        description="idle time of a run whose events come one by one; at most 10 times the usual",
    )
    drain_lifetime_s: float = Field(
        600, ge=5, le=3_600, description="a drain run ends after this time"
    )
    lease_ttl_s: float = Field(
        30, ge=5, le=300, description="a silent drain run loses its shard after this time"
    )
    # Above the 60 s statement time-out of a batch: a living server speaks first.
    postgres_answer_s: float = Field(
        75,
        ge=1,
        le=600,
        description="silence of PostgreSQL after which a drain run opens a new connection",
    )
    observation_interval_s: float = Field(
        10, ge=1, le=600, description="time between two observations of a run"
    )
    # 35 KB each with its events: a shard with pauses makes up to 260 a day.
    dagster_drains_retain_days: float = Field(
        7,
        ge=0,
        le=3_650,
        description="finished runs of drains and hourly checks are deleted after this time",
    )
    dagster_runs_retain_days: float = Field(
        90, ge=0, le=3_650, description="all other finished runs are deleted after this time"
    )
    # A waiting sensor leaves 2,900 ticks a day of 2 KB each.
    ticks_retain_days: float = Field(
        7,
        ge=0,
        le=3_650,
        description="ticks of sensors and schedules are deleted after this time",
    )
    # 5 n - 0.5 s: sensor ticks start on 5 s marks (measured, Dagster 1.13.27). Each costs Dagster's
    # storage 2 KB, whatever it finds; one may last 60 s.
    sensor_block_ms: int = Field(
        29_500,
        ge=0,
        le=50_000,
        description="length of a sensor tick that waits; its overhead is deducted",
    )
    partition_interval: Literal["hour", "day", "week", "month"] = Field(
        "day", description="range of one partition"
    )
    partitions_ahead: int = Field(7, ge=3, le=366, description="partitions kept ready ahead of now")
    partitions_alarm: int = Field(
        3, ge=1, le=366, description="fewer partitions ahead raise the alarm"
    )
    # Two days: a producer that was offline over a night, or a day, still finds its partition open.
    seal_after_hours: int = Field(
        48, ge=1, le=720, description="hours after its end at which a partition is sealed"
    )
    hot_days: int = Field(
        30, ge=1, le=3_660, description="days that partitions stay in PostgreSQL after their end"
    )
    # The table refuses to note a drop earlier than 7 days after the detach.
    grace_days: int = Field(
        7, ge=7, le=365, description="days between detaching and dropping a partition"
    )
    retention_preset: Literal["default", "pci", "hipaa", "short"] = Field(
        "default",
        description="hot and total time of events without a rule of their own: 30 days and 1 year; "
        "pci 3 and 12 months; hipaa 30 days and 6 years; short 7 days",
    )
    reopen_keep_hours: int = Field(
        24,
        ge=1,
        le=8_760,
        description="files of the former generation stay so long after the new one is verified",
    )
    restore_drill_enabled: bool = Field(
        default=True,
        description="restore a random archived partition every week and compare it",
    )
    # Credentials come from the environment (AWS_*) and never stand in the URL, which is shown.
    archive_url: Annotated[str, Field(pattern=ARCHIVE_URL)] | None = Field(
        None,
        description="where partitions are archived, file:/// or s3://; "
        "default: `archive` in AUDIT_DATA_DIR",
    )
    archive_copy_url: Annotated[str, Field(pattern=ARCHIVE_URL)] | None = Field(
        None, description="second copy of the archive, on another disk or in another place"
    )
    # A group is what a reader skips or reads as a whole, and what an export holds in memory.
    archive_rows_per_group: int = Field(
        100_000, ge=1_000, le=1_000_000, description="rows of one Parquet row group"
    )
    archive_file_bytes: int = Field(
        128 * MEBIBYTE, ge=MEBIBYTE, description="a Parquet file ends at about this size"
    )
    export_dir: Path | None = Field(
        None, description="where exports of searches go; default: `exports` in AUDIT_DATA_DIR"
    )
    max_event_bytes: int = Field(65_536, ge=1_024, le=65_536, description="largest event")
    max_json_depth: int = Field(32, ge=1, le=32, description="deepest nesting of an event")
    max_json_keys: int = Field(256, ge=16, le=4_096, description="most keys of an event")
    future_tolerance_s: int = Field(
        300, ge=0, le=86_400, description="how far ahead a timestamp may lie"
    )
    search_timeout_s: float = Field(
        10, ge=0.1, le=600, description="longest search, PostgreSQL and archive together"
    )
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = Field(
        "INFO", description="least level logged"
    )
    crash: str | None = Field(
        None, description="tests only: name of the point at which the process kills itself"
    )

    def redis_url_of(self, user: Literal["consumer", "sensor", "janitor"]) -> str:
        """URL for one Redis user; an external Redis without users serves all by `redis_url`."""
        own: SecretStr | None = getattr(self, f"redis_{user}_url")
        return (own or self.redis_url).get_secret_value()

    def archive_place(self) -> str:
        """URL of the archive; without a setting, `archive` in the data directory."""
        return self.archive_url or (self.data_dir.absolute() / "archive").as_uri()

    def export_place(self) -> Path:
        """Directory of the exports; without a setting, `exports` in the data directory."""
        return self.export_dir or self.data_dir.absolute() / "exports"

    def database_url_of(self, role: Literal["writer", "reader", "maint", "dagster"]) -> str:
        """URL for one PostgreSQL role.

        Raises:
            InvalidSetting: No platform runs on the data directory and no URL is set.
        """
        url: SecretStr | None = getattr(self, f"{role}_url")
        if url is None:
            message = (
                f"AUDIT_{role.upper()}_URL is not set and no platform has run in {self.data_dir}: "
                "start one with `audit-platform up`, or set the variable"
            )
            raise InvalidSetting(message, field=f"{role}_url")
        return url.get_secret_value()


def load_settings(**overrides: Any) -> Settings:
    """Read the server's settings; arguments win over every other source.

    Raises:
        InvalidSetting: Names the variable, the problem and the accepted range.
    """
    return Settings(**overrides)


def load_client_settings(**overrides: Any) -> ClientSettings:
    """Read the producer's settings; arguments win over every other source.

    Raises:
        InvalidSetting: Names the variable, the problem and the accepted range.
    """
    return ClientSettings(**overrides)


def origins(settings_class: type[ClientSettings] = Settings, **overrides: Any) -> dict[str, str]:
    """Name the source of each setting: argument, environment, .env, platform.env or default."""
    sources = settings_class.settings_customise_sources(
        settings_class,
        InitSettingsSource(settings_class, init_kwargs=overrides),
        EnvSettingsSource(settings_class, env_prefix=ENV_PREFIX),
        DotEnvSettingsSource(settings_class, env_file=".env", env_prefix=ENV_PREFIX),
        InitSettingsSource(settings_class, init_kwargs={}),
    )
    labels = ("argument", "environment", ".env", PLATFORM_ENV)
    found = dict.fromkeys(settings_class.model_fields, "default")
    for label, source in reversed(list(zip(labels, sources, strict=True))):
        found.update({name: label for name in source() if name in found})
    return found


def environment_for_child(**changes: str | None) -> dict[str, str]:
    """Copy this process's environment for a child; None removes a variable.

    The one other use of the environment, so that no other module touches it.
    """
    child = {key: value for key, value in os.environ.items() if changes.get(key, value) is not None}
    child.update({key: value for key, value in changes.items() if value is not None})
    return child


def _data_dir(
    init_settings: PydanticBaseSettingsSource, dotenv_settings: PydanticBaseSettingsSource
) -> Path:
    given = init_settings().get("data_dir") or os.environ.get(f"{ENV_PREFIX}DATA_DIR")
    if given is None and isinstance(dotenv_settings, EnvSettingsSource):
        given = dotenv_settings.env_vars.get(f"{ENV_PREFIX}DATA_DIR".lower())
    return Path(given) if given else DEFAULT_DATA_DIR


def _invalid_setting(exc: ValidationError) -> InvalidSetting:
    first = exc.errors(include_url=False, include_input=False)[0]
    name = str(first["loc"][0]) if first["loc"] else "settings"
    problem = first["msg"].lower()
    if name in {"archive_url", "archive_copy_url"}:
        # A pattern tells nobody what to write.
        problem = "write file:///directory or s3://bucket/prefix, without credentials"
    message = f"{ENV_PREFIX}{name.upper()}: {problem}; see .env.example for its range"
    return InvalidSetting(message, field=name)
