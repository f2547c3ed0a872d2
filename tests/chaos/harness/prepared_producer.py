"""A producer process that sends nothing again: the control of the resend window.

Run by `kept.py` with `-m`. `config["without"]` is `resend` or null; the part is replaced in the
memory of this process, nothing in the package can be switched off.
"""

from audit_platform.client import core
from audit_platform.client.custodian import Custodian
from audit_platform.client.custody import Outgoing
from tests.chaos.harness import producer_process
from tests.chaos.harness.orders import Orders


class ForgetfulCustodian(Custodian):
    """Keeps nothing for later."""

    def resends(self) -> list[Outgoing]:
        """Find nothing to send again."""
        return []


def main() -> None:
    """Prepare, then log as usual."""
    orders = Orders()
    if orders.config["without"] == "resend":
        core.Custodian = ForgetfulCustodian
    producer_process.log_until_ordered(orders)


if __name__ == "__main__":
    main()
