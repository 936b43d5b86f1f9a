"""Recognizes the negative class, without the finding, by its name."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence

from cxr_tfds.errors import InputError, Undecided
from cxr_tfds.sources.config_json import propose_config
from cxr_tfds.sources.paths import fold_name, join_names
from cxr_tfds.text import printable

# Compared without case, spaces and punctuation, and without the words of _GENERIC.
_NEGATIVE = {
    "normal", "normals", "negative", "neg", "healthy", "nofinding", "nofindings", "noncovid",
    "noncovid19", "control", "controls", "healthycontrol", "healthycontrols", "normalcontrol",
    "none", "no", "false", "clear", "unremarkable", "nodisease", "0",
    "gesund", "normalbefund", "unauffällig", "ohnebefund",  # German
    "sain", "saine", "sains", "normale", "normaux",  # French, and Italian "normale"
    "sano", "sana", "sanos", "saludable", "sani", "normali",  # Spanish and Italian
    "saudável", "saudavel", "normais",  # Portuguese
    "sağlıklı", "saglikli", "zdrowy", "zdrowe", "normalny", "prawidłowy",  # Turkish and Polish
    "норма", "нормальный", "нормальные", "здоровый", "здоровые",  # Russian
    "正常", "健康", "无异常", "無異常", "異常なし", "정상", "सामान्य", "طبيعي", "سليم",
}  # fmt: skip
_NEGATIONS = ("no", "non", "not", "without", "un", "sin", "sans", "ohne", "senza", "sem")
_GENERIC = {
    "image", "images", "img", "imgs", "case", "cases", "class", "label", "patient", "patients",
    "scan", "scans", "x", "ray", "rays", "xray", "xrays", "cxr",
    "radiograph", "radiographs", "chest", "lung", "lungs",
}  # fmt: skip


_MAX_LENGTH = 255  # as of the name of a folder


def order_classes(
    names: Sequence[str], negative: str | None, *, are_given: bool = False
) -> tuple[str, ...]:
    """Returns the class names with the negative class first.

    Args:
      names: All classes.
      negative: The negative class; None recognizes it by its name; "" if there is none.
      are_given: Whether the user gave the classes in their order.

    Raises:
      Undecided: No class sounds negative, or several do.
      InputError: The negative class is not one of the classes, or a name is too long or has control
        characters.
    """
    for name in names:
        if not name.isprintable() or len(name) > _MAX_LENGTH:
            raise InputError(
                f"The class '{printable(name[:50])}' is not usable as a class name. Expected up to "
                f"{_MAX_LENGTH} characters without line breaks and control characters. Rename it."
            )
    if negative == "":
        return tuple(names)
    if negative is not None:
        found = [name for name in names if fold_name(name) == fold_name(negative)]
        if not found:
            raise InputError(
                f"negative={negative!r} is not one of the classes {join_names(names)}."
            )
    else:
        found = [name for name in names if sounds_negative(name, names)]
        if are_given:  # in order, unless the names contradict it
            found = [names[0]] if found in ([], [names[0]]) else []
    if len(found) != 1:
        candidates = f" Candidates: {join_names(found)}." if len(found) > 1 else ""
        raise Undecided(
            f"Which of the classes {join_names(names)} is the negative class, without the finding?"
            f'{candidates} Add its name, or "" if no class is negative: '
            f"{propose_config(negative='NAME')}",
            "negative",
            names,
        )
    return (*found, *(name for name in names if name != found[0]))


def sounds_negative(name: str, names: Sequence[str]) -> bool:
    """Returns whether a class name means that the finding of the other classes is absent.

    Besides names such as "Normal", these are negations: `non-TB` next to `TB`, `Uninfected` next to
    `Infected`, and `Without effusion` next to any other name.
    """
    own, *others = _distinctive_words([name, *names])
    solid = "".join(own)
    if solid in _NEGATIVE or "".join(_split_words(name)) in _NEGATIVE:
        return True
    others = [words for words in others if words != own]
    return any(
        solid == negation + "".join(words) for negation in _NEGATIONS for words in others
    ) or (own[:1] in (["without"], ["no"]) and len(own) > 1)


def _distinctive_words(names: Sequence[str]) -> list[list[str]]:
    """Returns the words of each name without generic and shared first words.

    For example `[["covid"], ["noncovid"]]` for CT_COVID and CT_NonCOVID.
    """
    words = [
        [word for word in _split_words(name) if word not in _GENERIC] or _split_words(name)
        for name in names
    ]
    while all(len(own) > 1 and own[0] == words[0][0] for own in words):
        words = [own[1:] for own in words]
    return words


def _split_words(name: str) -> list[str]:
    """Returns the words of a name; accents and vowel signs belong to their letters."""
    text = unicodedata.normalize("NFC", name).casefold()
    return "".join(
        char if char.isalnum() or unicodedata.category(char).startswith("M") else " "
        for char in text
    ).split()
