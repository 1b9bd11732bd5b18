"""Read contrasts such as ``condition[stim] - condition[ctrl]`` as weights on the coefficients."""

import re
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from mlmgen.dependence import dependencies
from mlmgen.errors import UserError, listing, nearest
from mlmgen.types import Contrast, Design

INTERCEPT = "(Intercept)"
NUMBER = re.compile(r"(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?")
# Weights below this beside the largest are rounding, as of 1/3 written as 0.3333333.
ROUNDING = 1e-6
MOST_LISTED = 40
GRAMMAR = (
    "A contrast is a sum such as 'condition[stim] - condition[ctrl]', '0.5 * (condition[b] + condition[c]) - "
    "condition[a]' or the name of a coefficient; a list of such sums is one joint test."
)
AVERAGE = "mean("


class _Token(NamedTuple):
    kind: str
    text: str
    place: int
    name: str = ""


# Factors and names; a number has no name.
_Value = list[tuple[float, str]]


def resolve(expressions: Mapping[str, str | Sequence[str]] | str | None, design: Design) -> tuple[Contrast, ...]:
    """Turn the contrasts of the configuration into weights on the coefficients of one design.

    Parameters
    ----------
    expressions : mapping of name to expression or list of expressions, one expression, or None
        Sums of ``[number [*]] atom``, with parentheses, which a number may multiply or divide; an atom is the
        name of a coefficient, a mean ``factor[level]`` or an average ``mean(factor[level])``, the level written as
        it is. A list is a joint test that all of its sums are 0. One expression is its own name. None: every
        coefficient but the intercept, under its own name.
    design : Design

    Raises
    ------
    UserError
        Where an expression cannot be read, names something unknown, or compares nothing; where one of a list
        follows from the others.
    """
    if expressions is None:
        return _every_coefficient(design)
    if isinstance(expressions, str):
        expressions = {expressions: expressions}
    if not isinstance(expressions, Mapping):
        do = f"Name each of them, as in {{'effect': {example(design)!r}}}. {GRAMMAR}"
        raise UserError(f"the contrasts are a {type(expressions).__name__}", "configuration key contrasts", do)
    return tuple(_contrast(str(name), given, design) for name, given in expressions.items())


def _every_coefficient(design: Design) -> tuple[Contrast, ...]:
    level = next((name for name in design.coefficients if name in design.means), None)
    if level is not None:
        what = f"the formula has no intercept, so that {level} is the mean of a level, not an effect"
        do = f"Say what to compare, for example {{effect: {example(design)!r}}}, or let the formula have an intercept."
        raise UserError(what, "configuration key contrasts", do)
    rows = zip(design.coefficients, np.eye(len(design.coefficients)), strict=True)
    return tuple(Contrast(name, name, row[None]) for name, row in rows if name != INTERCEPT)


def _contrast(name: str, given: str | Sequence[str], design: Design) -> Contrast:
    where = f"configuration key contrasts.{name}"
    rows = [given] if isinstance(given, str) or not isinstance(given, Sequence) else list(given)
    if not rows:
        raise UserError("the list of a joint test is empty", where, GRAMMAR)
    weights = np.stack([_weights(row, design, where) for row in rows])
    if found := dependencies(weights.T):
        j, involved = found[0]
        what = f"{rows[j]!r} follows from {listing(repr(rows[k]) for k in involved)} in the same joint test"
        raise UserError(what, where, "Leave it out: a joint test needs effects of which none follows from the others.")
    return Contrast(name, "; ".join(rows), weights)


def _weights(expression: str, design: Design, where: str) -> np.ndarray:
    """Read one expression, (p,)."""
    if not isinstance(expression, str) or not expression.strip():
        raise UserError(f"the contrast is empty or not a text: {expression!r}", where, GRAMMAR)
    weights = np.zeros(len(design.coefficients))
    means = 0.0
    for factor, atom in atoms(expression, design, where):
        if atom in design.means:
            weights += factor * design.means[atom]
            means += factor
        else:
            weights[design.coefficients.index(atom)] += factor
    if abs(means) > ROUNDING:
        what = f"the weights of the means in {expression!r} sum to {means:g}"
        do = f"They must sum to 0, so that levels are compared with each other, as in {example(design)!r}."
        raise UserError(what, where, do)
    weights[np.abs(weights) < ROUNDING * np.abs(weights).max(initial=0.0)] = 0.0
    if not weights.any():
        raise UserError(f"{expression!r} compares nothing: all its weights cancel", where, GRAMMAR)
    return weights


def example(design: Design) -> str:
    """Write a contrast that a design allows, such as ``condition[stim] - condition[ctrl]``."""
    names = list(design.means)
    factor = names[0].partition("[")[0] if names else ""
    levels = [name for name in names if name.startswith(f"{factor}[")]
    return f"{levels[1]} - {levels[0]}" if len(levels) > 1 else next(iter(design.coefficients[1:]), INTERCEPT)


def _unknown(atom: str, design: Design, where: str) -> UserError:
    names = [*(name for name in design.coefficients if name != INTERCEPT), *design.means]
    means = [name for name in design.means if not name.startswith(AVERAGE)]
    averages = f" mean({means[0]}) averages it over the other factors." if len(design.means) > len(means) else ""
    close = nearest(atom, names)
    of_level = [name for name in means if name.endswith(f"[{atom}]")]
    if of_level:
        close = f"Did you mean {of_level[0]!r}? "
    do = (
        f"{close}The coefficients are: {listing(design.coefficients, MOST_LISTED)}; "
        f"the means are: {listing(means, MOST_LISTED) or 'none, as no factor is in the fixed effects'}.{averages}"
    )
    return UserError(f"there is no coefficient or mean {atom!r} in this design", where, do)


def atoms(expression: str, design: Design, where: str) -> list[tuple[float, str]]:
    """Read an expression as a weighted sum of coefficients and means.

    Parameters
    ----------
    expression : str
        In the grammar of `resolve`.
    design : Design
    where : str
        For messages.

    Returns
    -------
    list of (weight, name)
        In the order of the expression; names of ``Design.coefficients`` or ``Design.means``.

    Raises
    ------
    UserError
        Where it cannot be read or names something unknown.
    """
    tokens = _tokens(expression, design, where)
    value, end = _sum(tokens, 0, expression, where)
    if end < len(tokens) - 1:
        raise _problem(f"{tokens[end].text!r} is not expected", tokens[end], expression, where)
    alone = [factor for factor, atom in value if not atom]
    if alone:
        what = f"the number {alone[0]:g} in {expression!r} is not multiplied by a coefficient or mean"
        raise UserError(what, where, GRAMMAR)
    return value


def _tokens(expression: str, design: Design, where: str) -> list[_Token]:
    """Cut an expression into names, numbers and signs, the longest known name first."""
    names = _spellings(design)
    longest_first = sorted(names, key=len, reverse=True)
    tokens = []
    place = 0
    while place < len(expression):
        if expression[place].isspace():
            place += 1
            continue
        number = NUMBER.match(expression, place)
        atom = next((a for a in longest_first if _stands_at(a, expression, place)), "")
        if atom:
            token = _Token("atom", atom, place, names[atom])
        elif number:
            token = _Token("number", number[0], place)
        elif expression[place] in "+-*/()":
            token = _Token(expression[place], expression[place], place)
        else:
            raise _unknown(_name_at(expression, place, where), design, where)
        tokens.append(token)
        place += len(token.text)
    return [*tokens, _Token("end", "", len(expression))]


def _spellings(design: Design) -> dict[str, str]:
    """Return the names of coefficients and means, also with factors in backticks; a mean goes first."""
    names = [*design.coefficients, *design.means]
    firsts = [name.partition("[")[0] for name in design.means if not name.startswith(AVERAGE)]
    factors = sorted({name for name in firsts if ":" not in name})
    spellings = {name: name for name in names}
    spellings |= {name.replace(", ", ","): name for name in design.coefficients if "(" in name}
    spellings |= {_reversed(name, factors): name for name in design.means}
    for name in names:
        quoted = name
        for factor in factors:
            quoted = re.sub(rf"(^|:|mean\(){re.escape(factor)}(?=\[)", lambda m, f=factor: f"{m[1]}`{f}`", quoted)
        spellings.setdefault(quoted if quoted != name else f"`{name}`", name)
    return spellings


def _reversed(name: str, factors: list[str]) -> str:
    """Write ``a[x]:b[y]`` as ``b[y]:a[x]``, also inside ``mean()``; other names stay."""
    average = AVERAGE if name.startswith(AVERAGE) else ""
    cells = name.removeprefix(average).removesuffix(")" if average else "")
    parts = re.split(rf":(?=(?:{'|'.join(map(re.escape, factors))})\[)", cells)
    return f"{average}{':'.join(reversed(parts))}{')' if average else ''}"


def _stands_at(atom: str, expression: str, place: int) -> bool:
    """Tell whether a name stands here and ends where it seems to."""
    rest = expression[place + len(atom) : place + len(atom) + 1]
    return expression.startswith(atom, place) and not re.match(r"[\w`.:\[]", rest)


def _name_at(expression: str, place: int, where: str) -> str:
    """Cut out an unknown name: up to a space or sign outside brackets, calls and backticks."""
    depth, calls, quoted = 0, 0, False
    for i in range(place, len(expression)):
        character = expression[i]
        quoted ^= character == "`" and not depth
        if depth == 0 and not quoted and i > place:
            if character == "(" or (character == ")" and calls):
                calls += 1 if character == "(" else -1
            elif calls == 0 and (character.isspace() or character in "+-*/)"):
                return expression[place:i]
        depth += (character == "[") - (character == "]")
    if depth > 0 or quoted:
        token = _Token("", expression[place:], place)
        raise _problem(f"a {'backtick' if quoted else 'bracket'} is not closed", token, expression, where)
    return expression[place:]


def _sum(tokens: list[_Token], i: int, expression: str, where: str) -> tuple[_Value, int]:
    """Read products joined by plus and minus."""
    total: _Value = []
    while True:
        sign = 1.0
        while tokens[i].kind in "+-":
            sign, i = (-sign if tokens[i].kind == "-" else sign), i + 1
        value, i = _product(tokens, i, expression, where)
        total += [(sign * factor, atom) for factor, atom in value]
        if tokens[i].kind not in "+-":
            return total, i


def _product(tokens: list[_Token], i: int, expression: str, where: str) -> tuple[_Value, int]:
    """Read factors joined by ``*``, ``/`` or nothing; all but one must be numbers."""
    value, i = _primary(tokens, i, expression, where)
    while True:
        operator = tokens[i]
        implied = operator.kind in ("atom", "(") and tokens[i - 1].kind == "number"
        if operator.kind not in "*/" and not implied:
            return value, i
        other, i = _primary(tokens, i if implied else i + 1, expression, where)
        if operator.kind == "/":
            if not _is_number(other) or _number(other) == 0:
                raise _problem("only a number other than 0 can divide", operator, expression, where)
            other = [(1.0 / _number(other), "")]
        if not (_is_number(value) or _is_number(other)):
            raise _problem("a product of two coefficients is not a contrast", operator, expression, where)
        value = [(f * g, atom or other_atom) for f, atom in value for g, other_atom in other]


def _primary(tokens: list[_Token], i: int, expression: str, where: str) -> tuple[_Value, int]:
    """Read a name, a number or a parenthesis."""
    token = tokens[i]
    if token.kind == "atom":
        return [(1.0, token.name)], i + 1
    if token.kind == "number":
        return [(float(token.text), "")], i + 1
    if token.kind == "(":
        value, i = _sum(tokens, i + 1, expression, where)
        if tokens[i].kind != ")":
            raise _problem("a parenthesis is not closed", token, expression, where)
        return value, i + 1
    seen = f"{token.text!r} is not expected" if token.text else "it ends too early"
    raise _problem(f"{seen}, a coefficient or mean should follow", token, expression, where)


def _is_number(value: _Value) -> bool:
    return not any(atom for _, atom in value)


def _number(value: _Value) -> float:
    return sum(factor for factor, _ in value)


def _problem(message: str, token: _Token, expression: str, where: str) -> UserError:
    """Build the error that quotes the contrast up to the place."""
    shown = expression[: token.place + max(len(token.text), 1)]
    return UserError(f"{message}: {shown}  <- here, at character {token.place + 1}", where, GRAMMAR)


def estimable(chosen: Sequence | None, design: Design) -> tuple[tuple[Contrast, ...], dict[str, UserError]]:
    """Resolve contrasts one by one, since a cell type need not have the levels of all of them.

    Parameters
    ----------
    chosen : sequence of (name, expression or list of expressions), or None
        As `mlmgen.config.stage` gives them; None is every coefficient but the intercept.
    design : Design

    Returns
    -------
    contrasts : tuple of Contrast
    errors : dict of str to UserError
        Why others cannot be estimated, by name.
    """
    if not chosen:
        return resolve(None, design), {}
    found, errors = [], {}
    for name, expression in chosen:
        try:
            found += resolve({name: expression}, design)
        except UserError as error:
            errors[name] = error
    return tuple(found), errors
