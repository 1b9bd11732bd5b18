"""Read the random terms of a formula in lme4's notation: ``(1 + x | a/b)``."""

import re
from dataclasses import dataclass

from mlmgen.expressions import problem

ALLOWED = (
    "A random term is (effects | groups): effects are 1, 1 + x or 0 + x; groups are a, a:b or a/b, which means "
    "a and a:b; with || the effects are uncorrelated."
)
SUMMAND = 'Join it with a plus, as in "~ condition + (1 | donor)".'
GROUPS = re.compile(r"\s*(`[^`]+`|\w[\w.]*)\s*(?:([:/])|$)")
PLAIN = re.compile(r"\w[\w.]*")


@dataclass(frozen=True)
class RandomPart:
    """A random term as it is written, for one grouping factor.

    Attributes
    ----------
    groups : tuple of str
        The obs columns that are crossed to form the grouping factor.
    effects : str
        In formulaic's grammar with the intercept, for example ``1``, ``1 + x``, ``0 + x``.
    correlated : bool
        False for ``||``: each column has a variance and no covariances.
    """

    groups: tuple[str, ...]
    effects: str = "1"
    correlated: bool = True

    @property
    def name(self) -> str:
        """The grouping factor, for example ``donor:condition``."""
        return ":".join(self.groups)

    @property
    def text(self) -> str:
        """The term as a formula has it, for example ``(1 + x | donor)``."""
        effects = re.sub(r"`((?:within|between)\(.*?\))`", r"\1", self.effects)
        return f"({effects} {'|' if self.correlated else '||'} {self.name})"


def quoted(name: str) -> str:
    """Write a column as a formula needs it: in backticks where it is not a plain name."""
    return name if PLAIN.fullmatch(name) else f"`{name}`"


def outside_quotes(text: str) -> list[tuple[int, int]]:
    """Return the place and the depth in parentheses of each character that no quote or backtick covers."""
    found, closing, depth = [], "", 0
    for i, character in enumerate(text):
        if closing:
            closing = "" if character == closing else closing
        elif character in "`'\"":
            closing = character
        else:
            depth -= character == ")"
            found.append((i, depth))
            depth += character == "("
    return found


def spans(text: str, rest: str) -> list[tuple[int, int, int]]:
    """Find the parentheses that hold a random term; each must be a summand of its own.

    Parameters
    ----------
    text : str
        The formula.
    rest : str
        The same with its tilde blanked.

    Returns
    -------
    list of (start, bar, end)
        Places of the parenthesis and of the first bar.

    Raises
    ------
    UserError
        Pointing at a bar or parenthesis that is out of place.
    """
    opened: list[int] = []
    found: list[tuple[int, int, int]] = []
    bars: dict[int, int] = {}
    for i, _ in outside_quotes(rest):
        if rest[i] == "(":
            opened.append(i)
        elif rest[i] == ")" and opened:
            start = opened.pop()
            if start in bars and not any(_is_call(rest, place) for place in [*opened, start]):
                check_summand(text, rest, start, i + 1, bool(opened), f"the random term {rest[start : i + 1]}", SUMMAND)
                found.append((start, bars[start], i + 1))
        elif rest[i] == "|":
            if not opened:
                raise problem("a '|' outside parentheses", text, i, i + 1, ALLOWED)
            bars.setdefault(opened[-1], i)
    for start in opened:
        if start in bars and not _is_call(rest, start):
            raise problem("a parenthesis that is not closed", text, start, len(text), ALLOWED)
    return found


def check_summand(text: str, rest: str, start: int, end: int, nested: bool, what: str, do: str) -> None:
    """Raise a UserError unless a plus or nothing stands before and after a part of a formula."""
    before, after = rest[:start].rstrip()[-1:], rest[end:].lstrip()[:1]
    if nested or before not in ("", "+") or after not in ("", "+", "-"):
        raise problem(f"{what} is not a summand of its own", text, start, end, do)


def grouping_factors(text: str, start: int, bar: int, end: int) -> tuple[list[tuple[str, ...]], bool]:
    """Read what follows the bar of a random term.

    Returns
    -------
    groups : list of tuple of str
        The grouping factors it stands for, each as the obs columns that are crossed.
    correlated : bool
        False after ``||``.
    """
    double = text[bar + 1 : bar + 2] == "|"
    right = text[bar + 1 + double : end - 1]
    groups: list[tuple[str, ...]] = [()]
    place = 0
    while match := GROUPS.match(right, place):
        groups[-1] += (match[1].strip("`"),)
        place = match.end()
        if not match[2]:
            break
        if match[2] == "/":
            groups.append(groups[-1])
    else:
        rest = right[place:].lstrip()
        do = f"{ALLOWED} Names with spaces or signs go in `backticks`."
        raise problem("expected the name of an obs column here", text, end - 1 - len(rest), end, do)
    if any(len(set(group)) < len(group) for group in groups):
        raise problem(f"a column is named twice in {text[start:end]}", text, start, end)
    return groups, not double


def without(text: str, rest: str, start: int, end: int) -> str:
    """Blank a summand of a formula with the plus that joins it; positions stay."""
    head, tail = rest[:start], rest[end:]
    plus = len(head.rstrip()) - 1
    if head.strip():
        head = head[:plus] + " " * (len(head) - plus)
    elif tail.lstrip().startswith("+"):
        plus = tail.index("+")
        tail = tail[:plus] + " " + tail[plus + 1 :]
        if not tail.strip():
            raise problem("nothing follows the last '+'", text, end + plus, end + plus + 1)
    return head + " " * (end - start) + tail


def refuse_repeated(parts: list[tuple[RandomPart, set]], text: str, start: int, end: int) -> None:
    """Raise a UserError where the last part has an effect that one before it has for the same groups.

    Parameters
    ----------
    parts : list of (RandomPart, set of frozenset of str)
        Each with the terms of its effects, as the factors they multiply; the intercept has none.
    text, start, end
        As for `mlmgen.expressions.problem`.
    """
    last, effects = parts[-1]
    for other, others in parts[:-1]:
        common = effects & others if set(other.groups) == set(last.groups) else set()
        if common:
            slope = ":".join(sorted(min(common, key=sorted)))
            what = f"slope of {slope} by" if slope else "intercept of"
            do = "Keep one of them; (0 + x | donor) is a slope without an intercept."
            raise problem(f"the random {what} {last.name} is there twice", text, start, end, do)


def _is_call(rest: str, start: int) -> bool:
    return start > 0 and (rest[start - 1].isalnum() or rest[start - 1] in "_.")
