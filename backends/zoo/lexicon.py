"""Word lists of the embedded experts: entities, attributes, closed value lists and phrasings.

This module owns vocabulary only; how facts and conversations are built from it is in `facts.py`,
`coding.py` and `data.py`. An attribute is one word, an entity is one word and a value is one word
or an integer from 0 to 999: each is one token of the shared tokenizer, which is what makes a lookup
learnable by a model of a few million parameters.
"""

from __future__ import annotations

from dataclasses import dataclass
from types import MappingProxyType
from typing import Final


def words(text: str) -> tuple[str, ...]:
    """Return the words of a text."""
    return tuple(text.split())


NUMBER: Final = ("<number>",)
"""Marks an attribute whose value is an integer from 0 to 999."""

PEOPLE: Final = words(
    "Ana Omar Lena Hugo Mina Paul Nora Ivan Rosa Emil Clara Yusuf Greta Boris Sofia Marco "
    "Judith Tomas Elena Victor Amara Felix Irene Oscar Leila Simon Petra Diego Hannah Louis"
)
CITIES: Final = words(
    "Oslo Cairo Lima Tokyo Dublin Vienna Prague Boston Athens Nairobi Geneva Havana Delhi "
    "Seoul Denver Quito"
)
COUNTRIES: Final = words(
    "Norway Egypt Peru Japan Ireland Austria Greece Kenya Cuba India Chile Canada"
)
LANGUAGES: Final = words(
    "English Spanish French German Italian Portuguese Arabic Hindi Korean Swahili"
)
COLORS: Final = words("red blue green yellow black white orange purple brown gray")
MONTHS: Final = words(
    "January February March April May June July August September October November December"
)
DAYS: Final = words("Monday Tuesday Wednesday Thursday Friday Saturday Sunday")
DRINKS: Final = words("coffee tea milk water wine beer juice cocoa cider lemonade")
DISHES: Final = words("soup pasta rice bread salad stew curry pizza pie fish")
ANIMALS: Final = words("cat dog horse goat parrot rabbit turtle donkey sheep duck")
HOURS: Final = tuple(str(hour) for hour in range(6, 24))
PROTOCOLS: Final = words("HTTP MQTT SSH FTP SMTP DNS gRPC Modbus Telnet LDAP")
VENDORS: Final = words("Acme Globex Initech Umbrella Hooli Vandelay Stark Wayne Tyrell Cyberdyne")
STATUSES: Final = words("online offline degraded idle busy locked draining standby")
MODES: Final = words("manual automatic eco turbo silent safe test burst")
MATERIALS: Final = words("steel copper glass carbon plastic titanium brass ceramic")


@dataclass(frozen=True, slots=True)
class Vocabulary:
    """The words of one domain in one language.

    `attributes` maps an attribute word to its values (`NUMBER` for integers). The templates use
    `{a}` for the attribute, `{e}` for the entity, `{v}` for the value and `{the}` / `{The}` for the
    article of the attribute.
    """

    language: str
    entities: tuple[str, ...]
    attributes: MappingProxyType[str, tuple[str, ...]]
    fact: str
    refusal: str
    questions: tuple[str, ...]
    kinds: tuple[str, ...]
    kind: str
    fillers: tuple[str, ...]
    articles: MappingProxyType[str, str]

    def article(self, attribute: str) -> str:
        """Return the article of an attribute, lower case."""
        return self.articles.get(attribute, "the")


def _frozen(**attributes: tuple[str, ...]) -> MappingProxyType[str, tuple[str, ...]]:
    return MappingProxyType(attributes)


_NO_ARTICLES: Final = MappingProxyType[str, str]({})
_ENGLISH_FACT: Final = "{The} {a} of {e} is {v}."
_ENGLISH_REFUSAL: Final = "{The} {a} of {e} is not in the documents."
_ENGLISH_FILLERS: Final = (
    "This page was reviewed last week.",
    "Please keep this entry up to date.",
    "More details follow in the next section.",
    "The team checks these notes every year.",
    "See the archive for older entries.",
    "Nothing else is known at this time.",
    "All numbers were checked by hand.",
    "Questions go to the front desk.",
    "This note replaces the old one.",
    "The list below is short on purpose.",
)

GENERAL: Final = Vocabulary(
    language="english",
    entities=words(
        "Willow Juniper Maple Laurel Cedar Hazel Aspen Birch Acacia Sequoia Magnolia Jasmine "
        "Tulip Orchid Lotus Daisy Lavender Clover Violet Marigold Peony Dahlia Poppy Azalea "
        "Camellia Gardenia Primrose Bluebell Thistle Heather Rosemary Thyme Basil Saffron Mango "
        "Papaya Quince Apricot Cherry Almond Walnut Chestnut Olive Cypress Poplar Linden Rowan "
        "Alder Elm Oak Pine Spruce Bamboo Ivy Fern Moss"
    ),
    attributes=_frozen(
        owner=PEOPLE,
        manager=PEOPLE,
        founder=PEOPLE,
        teacher=PEOPLE,
        guest=PEOPLE,
        price=NUMBER,
        rent=NUMBER,
        fee=NUMBER,
        capacity=NUMBER,
        age=NUMBER,
        floor=NUMBER,
        room=NUMBER,
        phone=NUMBER,
        opening=HOURS,
        closing=HOURS,
        color=COLORS,
        city=CITIES,
        country=COUNTRIES,
        language=LANGUAGES,
        drink=DRINKS,
        dish=DISHES,
        animal=ANIMALS,
        month=MONTHS,
        day=DAYS,
    ),
    fact=_ENGLISH_FACT,
    refusal=_ENGLISH_REFUSAL,
    questions=(
        "What is the {a} of {e}?",
        "what is the {a} of {e}",
        "Tell me the {a} of {e}.",
        "Which {a} does {e} have?",
        "Give me the {a} of {e}, please.",
        "I would like to know the {a} of {e}.",
        "Do you know the {a} of {e}?",
        "For {e}, what is the {a}?",
        "Can you tell me the {a} of {e}?",
        "And the {a} of {e}?",
        "What {a} does {e} have?",
        "{e} {a}?",
    ),
    kinds=("hotel", "school", "museum", "library", "shop", "bakery", "garden", "theater"),
    kind="{e} is a {k}.",
    fillers=_ENGLISH_FILLERS,
    articles=_NO_ARTICLES,
)

TECHNICAL: Final = Vocabulary(
    language="english",
    entities=words(
        "Kestrel Falcon Heron Osprey Condor Raven Sparrow Robin Swift Crane Pelican Puffin Finch "
        "Eagle Hawk Owl Stork Swallow Magpie Plover Curlew Petrel Gannet Merlin Harrier Lark Wren "
        "Starling Toucan Ibis Quartz Opal Topaz Ruby Garnet Onyx Jade Amber Pearl Agate Beryl "
        "Zircon Diamond Emerald Sapphire Turquoise Obsidian Jasper Coral Peridot Spinel Basalt "
        "Granite Marble Cobalt Nickel"
    ),
    attributes=_frozen(
        port=NUMBER,
        voltage=NUMBER,
        timeout=NUMBER,
        weight=NUMBER,
        speed=NUMBER,
        power=NUMBER,
        memory=NUMBER,
        temperature=NUMBER,
        frequency=NUMBER,
        pressure=NUMBER,
        width=NUMBER,
        latency=NUMBER,
        version=NUMBER,
        rack=NUMBER,
        channel=NUMBER,
        limit=NUMBER,
        bandwidth=NUMBER,
        threshold=NUMBER,
        protocol=PROTOCOLS,
        vendor=VENDORS,
        status=STATUSES,
        mode=MODES,
        material=MATERIALS,
        admin=PEOPLE,
    ),
    fact=_ENGLISH_FACT,
    refusal=_ENGLISH_REFUSAL,
    questions=(
        "What is the {a} of {e}?",
        "what is the {a} of {e}",
        "Show the {a} of {e}.",
        "Look up the {a} of {e}.",
        "Which {a} is set for {e}?",
        "What {a} does {e} use?",
        "Check the {a} of {e}.",
        "I need the {a} of {e}.",
        "What is the configured {a} of {e}?",
        "Which {a} does {e} use?",
        "On {e}, what is the {a}?",
        "{e} {a}?",
    ),
    kinds=("server", "router", "sensor", "printer", "pump", "camera", "switch", "database"),
    kind="{e} is a {k}.",
    fillers=_ENGLISH_FILLERS,
    articles=_NO_ARTICLES,
)

FUNCTION_NAMES: Final = words(
    "scale shift blend clamp fold spin twist bend stretch shrink boost trim merge pack sort "
    "flip push pull drop lift grow mix wrap slice score rank tune rate grade convert adjust "
    "measure compute derive update refine reduce expand map encode decode hash mask pad step "
    "jump bounce glide drift orbit"
)

SYSTEM_MESSAGES: Final = (
    "Answer from the documents.",
    "You are a helpful assistant.",
    "Be brief and exact.",
    "Answer in one sentence. Use the documents only.",
    "You are LiveMind. Answer from the documents or say that they do not contain it.",
)
