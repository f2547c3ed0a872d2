"""Values inside the demo's events: metadata and changed fields (pure).

Here: one generator per name, drawn from a seeded `random.Random`. Not here: which action carries
which name (`traffic_catalogue.py`).
"""

import random
from collections.abc import Callable, Mapping
from typing import Any, Final

Draw = Callable[[random.Random], Any]

FIRST_NAMES: Final = (
    *("Ada", "Ben", "Chloé", "Dmitri", "Elif", "Femi", "Grace", "Hana", "Ivo", "Jonas"),
    *("Keiko", "Lars", "Mira", "Noor", "Olga", "Paulo", "Quynh", "Rosa", "Sven", "Tomás"),
)
LAST_NAMES: Final = (
    *("Abbott", "Bauer", "Castro", "Dubois", "Eriksen", "Farah", "Gupta", "Hansen", "Ito"),
    *("Jansen", "Kaya", "Lindqvist", "Moreau", "Novák", "Okafor", "Petrov", "Quist", "Rossi"),
)
_CITIES: Final = (
    ("DE", "Köln"),
    ("FR", "Orléans"),
    ("JP", "京都"),
    ("BR", "São Paulo"),
    ("US", "Austin"),
    ("TR", "İzmir"),
    ("NG", "Lagos"),
)
_STAGES: Final = ("lead", "qualified", "proposal", "negotiation", "won", "lost")
_ROLES: Final = ("viewer", "editor", "billing", "admin")
_FILES: Final = ("contract.pdf", "price list.xlsx", "minutes (final).docx", "Übersicht.csv")


def _amount(rng: random.Random) -> float:
    return round(rng.lognormvariate(4.2, 1.1), 2)


def _lines(rng: random.Random) -> list[dict[str, Any]]:
    return [
        {
            "sku": f"SKU-{rng.randrange(900):03d}",
            "count": rng.randrange(1, 6),
            "price": _amount(rng),
        }
        for _ in range(rng.randrange(1, 4))
    ]


def _geo(rng: random.Random) -> dict[str, str]:
    country, city = rng.choice(_CITIES)
    return {"country": country, "city": city}


def _http(rng: random.Random) -> dict[str, Any]:
    return {"status": rng.choice((200, 200, 202, 500, 504)), "tries": rng.randrange(1, 4)}


def _change(rng: random.Random, values: tuple[Any, ...]) -> dict[str, Any]:
    old, new = rng.sample(values, 2)
    return {"old": old, "new": new}


DETAILS: Final[Mapping[str, Draw]] = {
    "amount": _amount,
    "channel": lambda rng: rng.choice(("web", "import", "phone", "partner")),
    "currency": lambda rng: rng.choice(("EUR", "USD", "JPY", "BRL")),
    # Beyond 2^53: stays exact only because json columns keep the bytes.
    "exact": lambda rng: (1 << 60) + rng.getrandbits(50),
    "file_name": lambda rng: rng.choice(_FILES),
    "gateway_ms": lambda rng: int(rng.lognormvariate(4.5, 0.8)),
    "geo": _geo,
    "http": _http,
    "lines": _lines,
    "method": lambda rng: rng.choice(("password", "passkey", "sso")),
    "mfa": lambda rng: rng.choice((True, True, False)),
    "role": lambda rng: rng.choice(_ROLES),
    "row_count": lambda rng: int(rng.lognormvariate(5, 1.5)),
    "scopes": lambda rng: sorted(rng.sample(("read", "write", "export", "admin"), 2)),
    "size_bytes": lambda rng: int(rng.lognormvariate(12, 2)),
    "tags": lambda rng: rng.sample(("vip", "eu", "trial", "partner", "churn-risk"), 2),
    "template": lambda rng: rng.choice(("welcome", "receipt", "stage-change", "reminder")),
}
"""Metadata by name."""

CHANGES: Final[Mapping[str, Draw]] = {
    "active": lambda _rng: {"old": True, "new": False},
    "amount": lambda rng: {"old": _amount(rng), "new": _amount(rng)},
    "email": lambda rng: _change(rng, tuple(f"mail{n}@example.com" for n in range(40))),
    "owner": lambda rng: _change(rng, tuple(f"u-{n:04d}" for n in range(30))),
    "role": lambda rng: _change(rng, _ROLES),
    "stage": lambda rng: _change(rng, _STAGES),
}
"""Old and new value by changed field."""
