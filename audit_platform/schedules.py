"""Schedules: when maintenance runs, each with the reason for its hour.

Here: cron lines, in UTC because partitions begin and end there. Not here: what the jobs do. All
are on by default; a missed tick is visible, which an automation condition would hide.
"""

from typing import Final

import dagster as dg

from audit_platform.jobs.janitor import janitor
from audit_platform.jobs.lifecycle import (
    archive_partitions,
    detach_partitions,
    drill_restore,
    drop_partitions,
    expire_archive,
    merge_late_rows,
)
from audit_platform.jobs.maintenance import (
    check_completeness,
    check_ledger,
    check_partitions,
    create_partitions,
)
from audit_platform.jobs.observe_storage import observe_storage
from audit_platform.resources import SettingsResource

_RUNNING: Final = dg.DefaultScheduleStatus.RUNNING
_UTC: Final = "UTC"

partitions_daily = dg.ScheduleDefinition(
    name="partitions_daily",
    job=create_partitions,
    # The day has just turned, so the horizon is a day short; 20 minutes past, because on the hour
    # everybody's reports run; and a failure leaves the whole working day to notice it.
    cron_schedule="20 0 * * *",
    execution_timezone=_UTC,
    default_status=_RUNNING,
    description="00:20 UTC: create partitions right after the UTC day has turned.",
)

runway_hourly = dg.ScheduleDefinition(
    name="runway_hourly",
    job=check_partitions,
    # Hourly partitions may be used up within hours; ten minutes before the hour, so that the alarm
    # comes before the partition that is missing is needed.
    cron_schedule="50 * * * *",
    execution_timezone=_UTC,
    default_status=_RUNNING,
    description=(
        "Ten minutes before each hour: are enough partitions ahead, and is every step of their "
        "life taken in its time?"
    ),
)

ledger_hourly = dg.ScheduleDefinition(
    name="ledger_hourly",
    job=check_ledger,
    # Reads the newest partition: apart from the two above, so that it never delays them.
    cron_schedule="35 * * * *",
    execution_timezone=_UTC,
    default_status=_RUNNING,
    description="35 minutes past each hour: do the newest ledger rows equal the stored rows?",
)

janitor_hourly = dg.ScheduleDefinition(
    name="janitor_hourly",
    job=janitor,
    # Leftovers in Redis make the sensor start drains that find nothing: a day would be too long.
    # Five past, apart from the other three.
    cron_schedule="5 * * * *",
    execution_timezone=_UTC,
    default_status=_RUNNING,
    description=(
        "Five past each hour: clear up in Redis; delete old runs, ticks and leftovers of Dagster."
    ),
)

completeness_daily = dg.ScheduleDefinition(
    name="completeness_daily",
    job=check_completeness,
    # The certificate is about the day that has just ended. A number counts as missing after 15
    # minutes, and what a producer could not send before midnight needs its time too.
    cron_schedule="45 0 * * *",
    execution_timezone=_UTC,
    default_status=_RUNNING,
    description="00:45 UTC: is every event of the day before accounted for? Writes a certificate.",
)

merge_nightly = dg.ScheduleDefinition(
    name="merge_nightly",
    job=merge_late_rows,
    # Before the archive run: the partitions that it opens are sealed and archived again in the
    # same night. After the certificate of 00:45, which reads the ledger of the day.
    cron_schedule="55 1 * * *",
    execution_timezone=_UTC,
    default_status=_RUNNING,
    description="01:55 UTC: move late rows into their partitions, before they are sealed again.",
)

archive_nightly = dg.ScheduleDefinition(
    name="archive_nightly",
    job=archive_partitions,
    # Partitions end at midnight UTC, and two days later to the hour they are due; a seal stops no
    # writer, but export and verification take a core for minutes, when most of the world is quiet.
    cron_schedule="10 2 * * *",
    execution_timezone=_UTC,
    default_status=_RUNNING,
    description="02:10 UTC: seal, index, export and verify the partitions whose time has come.",
)

detach_daily = dg.ScheduleDefinition(
    name="detach_daily",
    job=detach_partitions,
    # Two hours after the archive run, so that one disk does not read for both. A detach waits for
    # old transactions: nightly dumps and reports have mostly ended by then.
    cron_schedule="10 4 * * *",
    execution_timezone=_UTC,
    default_status=_RUNNING,
    description="04:10 UTC: detach what is no longer hot; searches read it from the archive.",
)

drop_daily = dg.ScheduleDefinition(
    name="drop_daily",
    job=drop_partitions,
    # An hour after the detach, which frees nothing: dropping is what cannot be taken back, so it
    # comes when everything that could object has run, and shortly before people come to work.
    cron_schedule="10 5 * * *",
    execution_timezone=_UTC,
    default_status=_RUNNING,
    description="05:10 UTC: drop tables whose grace is over, after a second proof.",
)

expiry_daily = dg.ScheduleDefinition(
    name="expiry_daily",
    job=expire_archive,
    # Last of the night, a day's work apart from itself: a file is marked by one run and deleted by
    # the next, so a rule or hold that was wrong can be put right during one whole working day.
    cron_schedule="10 6 * * *",
    execution_timezone=_UTC,
    default_status=_RUNNING,
    description="06:10 UTC: mark archive files whose time is over; delete those marked before.",
)

storage_every_six_hours = dg.ScheduleDefinition(
    name="storage_every_six_hours",
    job=observe_storage,
    # Four points a day show a trend; each observation takes 20 KB of Dagster's storage. 40 past,
    # apart from the others, and not at midnight, when partitions are made.
    cron_schedule="40 1,7,13,19 * * *",
    execution_timezone=_UTC,
    default_status=_RUNNING,
    description="01:40, 07:40, 13:40 and 19:40 UTC: note the sizes of tables and indexes.",
)


@dg.schedule(
    name="drill_weekly",
    job=drill_restore,
    # Tuesday, because a mismatch needs people: not on a Monday, and not before a weekend. After
    # the night's runs, before Europe's day adds its load.
    cron_schedule="10 7 * * 2",
    execution_timezone=_UTC,
    default_status=_RUNNING,
    description="Tuesday, 07:10 UTC: restore a random archived partition on trial.",
)
def drill_weekly(settings: SettingsResource) -> dg.RunRequest | dg.SkipReason:
    """Ask for the drill, unless it is switched off."""
    if not settings.load().restore_drill_enabled:
        return dg.SkipReason("AUDIT_RESTORE_DRILL_ENABLED is off: no restore is tried")
    return dg.RunRequest()
