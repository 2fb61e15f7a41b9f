"""Making a failing run small enough to be read: what it does not need is left out, as long as it breaks the same."""

from __future__ import annotations

from dataclasses import replace

from client_sim.sim.plan import Action, Plan
from client_sim.sim.run import Outcome, play

RUNS_MAX = 400


class Shrinker:
    """Of one plan that breaks one promise."""

    def __init__(self, plan: Plan, promise: str, runs_max: int = RUNS_MAX) -> None:
        self.plan = plan
        self._promise = promise
        self._left = runs_max

    def shrink(self) -> Outcome:
        """The smallest run that was found, with its history."""
        self._calm()
        chunk = max(1, len(self.plan.actions) // 2)
        while chunk and self._left:
            if not self._leave_out(chunk) or chunk > 1:
                chunk //= 2
        self._calm()
        return play(self.plan, keep=True)

    def _breaks(self, plan: Plan) -> bool:
        """True, and `plan` takes the place of the old one, if it still breaks the promise."""
        if not self._left:
            return False
        self._left -= 1
        failure = play(plan).failure
        if failure is None or failure.promise != self._promise:
            return False
        self.plan = plan
        return True

    def _leave_out(self, chunk: int) -> bool:
        """Try without each stretch of so many actions, the last ones first; True if one was left out."""
        found = False
        start = len(self.plan.actions)
        while start > 0:
            start = max(0, start - chunk)
            actions = self.plan.actions
            found = self._with(actions[:start] + actions[start + chunk :]) or found
        return found

    def _with(self, actions: tuple[Action, ...]) -> bool:
        return self._breaks(replace(self.plan, actions=actions))

    def _calm(self) -> None:
        """Try without what goes wrong by chance."""
        calm, weather = self.plan.weather.calm, self.plan.weather
        if calm == weather or self._breaks(replace(self.plan, weather=calm)):
            return
        for name in ("stall", "connect_fails", "append_fails", "append_unreported", "load_fails", "compact_fails",
                     "worker_dies", "misread", "token_fails", "store_fails", "token_life", "bandwidth"):  # fmt: skip
            kept = self.plan.weather
            quieter = replace(kept, **{name: getattr(calm, name)})
            if quieter != kept:
                self._breaks(replace(self.plan, weather=quieter))
