"""Schedules: when maintenance runs, each with the reason for its hour.

Here: cron lines, in UTC because partitions begin and end there. Not here: what the jobs do. All
are on by default; a missed tick is visible, which an automation condition would hide.
"""

from typing import Final

import dagster as dg

from audit_platform.jobs.janitor import janitor
from audit_platform.jobs.maintenance import (
    check_completeness,
    check_ledger,
    check_partitions,
    create_partitions,
)

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
    description="Ten minutes before each hour: are enough partitions ahead?",
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
    description="Five past each hour: clear up in Redis and delete old runs of Dagster.",
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
