"""Which rule covers which operation: those of this package, and those that users write for operations of their own."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

from mechconn.symmetry import _layout_rules, _recurrent_rules, _rules, _written_rules
from mechconn.symmetry._axes import NoRuleError, length
from mechconn.symmetry._calls import Call, RuleResult
from mechconn.symmetry._rules import ELEMENTWISE, NONLINEAR, Rule

AnyRule = TypeVar("AnyRule", bound=Callable[[Call], RuleResult])

BUILT_IN: dict[str, Rule] = {**_rules.RULES, **_layout_rules.RULES, **_recurrent_rules.RULES, **_written_rules.RULES}


@dataclass(frozen=True)
class UserRule:
    """A rule that a user's file defines."""

    operation: str
    rule: Rule
    activation: bool
    odd: bool = False
    degree: float | None = None

    @property
    def name(self) -> str:
        """Where it is defined, as module:function."""
        return f"{self.rule.__module__}:{self.rule.__qualname__}"

    def apply(self, call: Call) -> RuleResult:
        """The axes of what the operation returns.

        Raises:
            NoRuleError: the rule does not cover this use of the operation.
            ValueError: the rule failed, returned no axes, or axes not as long as those of what the operation returns.
        """
        try:
            found = self.rule(call)
        except NoRuleError:
            raise
        except Exception as error:
            why = " ".join(str(error).split())
            raise ValueError(
                f"the symmetry rule {self.name} for {self.operation} failed ({type(error).__name__}: {why}); mend it, "
                "or raise NoRuleError for a use of the operation that it does not cover"
            ) from error
        results = found if isinstance(found, list) else [found]
        if not all(isinstance(axes, tuple) and all(isinstance(axis, tuple) for axis in axes) for axes in results):
            raise ValueError(
                f"the symmetry rule {self.name} for {self.operation} must return a tuple of axes, one for each "
                f"dimension, or a list of such tuples, got {_name_type(found)}; write `return call.x.axes` or the like"
            )
        made = [tuple(map(length, axes)) for axes in results]
        expected = list(call.shapes)
        if not made or made != expected[: len(made)]:
            raise ValueError(
                f"the symmetry rule {self.name} for {self.operation} returned axes of lengths {_show(made)}, and the "
                f"operation returns shape {_show(expected)}; return one axis for each dimension, as long as it"
            )
        return found


def _name_type(found: object) -> str:
    inner = dict.fromkeys(type(part).__name__ for part in found) if isinstance(found, list | tuple) else ()
    return "None" if found is None else f"a {type(found).__name__}{' of ' if inner else ''}{', '.join(inner)}"


_USER_RULES: dict[str, UserRule] = {}


def symmetry_rule(
    *operations: str,
    activation: bool = False,
    odd: bool = False,
    degree: float | None = None,
    replace: bool = False,
) -> Callable[[AnyRule], AnyRule]:
    """Decorator: register a symmetry rule for operations, in the file that defines it.

    A rule gets one `Call` of the operation, ties the axes of its arguments that must be permuted alike (`tie`), freezes
    those whose order the operation reads (`freeze`), and returns the axes of its result. It raises `NoRuleError` for a
    call that it does not cover, and every axis that the call touches is frozen. A rule may allow only permutations
    under which the operation is equivariant, f(p x) = q f(x). `Symmetry.verify` runs the network to prove that it does,
    and names the rule where it does not.

    Args:
        operations: full names, "namespace::name"; those of torch itself without namespace.
        activation: the operation is an activation function: `ActivationMatching` compares units after it.
        odd: f(-x) = -f(x) for its one tensor x, place by place, so that units keep their signs.
        degree: the d of f(s x) = s^d f(x) for s > 0, place by place, so that units keep their scales: a
            fraction whose denominator is at most 8; of another one, units keep none. Without the two nothing that the
            operation touches has signs or scales.
        replace: take the place of the rule that is there, also of one of this package.

    Raises:
        ValueError: an operation has a rule already. The same function may be registered again.
        TypeError: an operation that is no text.

    Example:
        >>> @symmetry_rule("my_library::swish", activation=True)
        ... def swish(call):
        ...     return broadcast(call.tensors, call.shape)  # place by place
        >>> find_user_rule("my_library::swish").name
        'mechconn.symmetry._rule_registry:swish'
        >>> remove_symmetry_rule("my_library::swish")
    """
    if not operations or not all(isinstance(operation, str) for operation in operations):
        raise TypeError(
            f"symmetry_rule needs the names of operations, got {', '.join(map(repr, operations)) or 'none'}; write "
            '@symmetry_rule("namespace::name")'
        )

    def register(rule: AnyRule) -> AnyRule:
        found = [UserRule(name.removeprefix("aten::"), rule, activation, odd, degree) for name in operations]
        for new in found:
            _refuse_second(new, replace)
        _USER_RULES.update({new.operation: new for new in found})
        return rule

    return register


def _refuse_second(new: UserRule, replace: bool) -> None:
    """Raise where the operation has another rule that is not to be replaced."""
    known, built_in = find_user_rule(new.operation), BUILT_IN.get(new.operation)
    name = known.name if known else f"{built_in.__module__}:{built_in.__qualname__}" if built_in else new.name
    if name != new.name and not replace:
        raise ValueError(
            f"the operation {new.operation} has a symmetry rule, {name}; pass replace=True to put {new.name} in its "
            "place"
        )


def remove_symmetry_rule(operation: str) -> None:
    """Remove the rule that `symmetry_rule` registered for an operation; one of this package counts again.

    Raises:
        ValueError: none was registered.
    """
    if _USER_RULES.pop(operation.removeprefix("aten::"), None) is None:
        registered = ", ".join(_USER_RULES) or "none"
        raise ValueError(
            f"no symmetry rule was registered for the operation {operation!r}; registered are: {registered}"
        )


def find_user_rule(operation: str) -> UserRule | None:
    """The rule that a user's file defines for an operation; None where there is none."""
    return _USER_RULES.get(operation)


def is_activation(operation: str) -> bool:
    """Whether an operation is an activation function."""
    own = find_user_rule(operation)
    return own.activation if own is not None else operation in NONLINEAR


def is_elementwise(operation: str) -> bool:
    """Whether an operation is known to act place by place."""
    own = find_user_rule(operation)
    return own.activation if own is not None else operation in ELEMENTWISE


def _show(shapes: list[tuple[int, ...]]) -> str:
    return " and ".join(str(list(shape)) for shape in shapes) or "none"
