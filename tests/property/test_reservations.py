"""A reservation holds all its limits or none, ends exactly once, and what it held is neither lost nor counted twice."""

from __future__ import annotations

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from dujiang.admission.day_meter import DayMeter
from dujiang.admission.demand import Charge, Demand
from dujiang.admission.meters import ConcurrencyMeter, Meter, WindowMeter
from dujiang.admission.reservation import Reservation, ReservationState, try_take
from dujiang.clock import SECOND, Instant
from dujiang.terms import Dimension, Usage

DAY = 86_400 * SECOND
WINDOW = 5_120
"""Nanoseconds; the mirror's grain is 20."""


class Book:
    """What a limit should have counted, added up anew each time from every event there was."""

    def __init__(self, meter: Meter) -> None:
        self.meter = meter
        self.rows: list[list] = []  # [when taken, amount, reservation number, when a slot comes free]

    def used(self, now: int) -> tuple[int, int]:
        """Return the least and the most that may count now: pieces of a window are merged, so they may stay a bit."""
        meter = self.meter
        if isinstance(meter, ConcurrencyMeter):
            exact = sum(row[1] for row in self.rows if row[3] is None or row[3] > now)
            return exact, exact
        if isinstance(meter, DayMeter):
            day = now // DAY
            exact = sum(row[1] for row in self.rows if row[0] // DAY == day)
            return exact, exact
        least = sum(row[1] for row in self.rows if row[0] + WINDOW > now)
        most = sum(row[1] for row in self.rows if row[0] + WINDOW + meter._grain_ns > now)
        return least, most


class Reservations(RuleBasedStateMachine):
    """Takes, extends and ends reservations in any order, any number of times."""

    @initialize(
        limits=st.lists(st.integers(1, 30), min_size=4, max_size=4),
        charge=st.sampled_from([Charge.ACTUAL, Charge.ARRIVAL_SETTLED, Charge.ARRIVAL_MAX]),
        lag=st.sampled_from([0, 300]),
    )
    def begin(self, limits, charge, lag) -> None:
        self.now = 20 * DAY - 3 * WINDOW
        turn_after = lambda now: Instant((now // DAY + 1) * DAY)  # noqa: E731
        requests = WindowMeter("requests", Dimension.REQUESTS, limits[0], WINDOW)
        tokens = WindowMeter("tokens", Dimension.TOKENS, limits[1] * 10, WINDOW)
        tokens.charge_by(charge)
        slots = ConcurrencyMeter("concurrency", Dimension.CONCURRENCY, limits[2], lag)
        day = DayMeter("day", Dimension.REQUESTS, limits[3] * 3, turn_after=turn_after, now=Instant(self.now))
        self.meters: list[Meter] = [requests, tokens, slots, day]
        self.lag = lag
        self.books = {meter.name: Book(meter) for meter in self.meters}
        self.open: list[Reservation] = []
        self.numbers: dict[int, int] = {}
        self.ended_count = 0
        self.endings: dict[int, int] = {}

    # What a reservation tells when it ends.
    def ended(self, reservation: Reservation, now: Instant) -> None:
        number = self.numbers[id(reservation)]
        self.endings[number] = self.endings.get(number, 0) + 1

    @rule(passes=st.one_of(st.integers(0, 50), st.integers(0, WINDOW), st.just(WINDOW), st.just(DAY)))
    def time_passes(self, passes) -> None:
        self.now += passes

    @rule(given_tokens=st.integers(0, 40), answered=st.integers(0, 20), spare=st.integers(0, 20))
    def reserve(self, given_tokens, answered, spare) -> None:
        estimate = Usage(input_tokens=given_tokens, output_tokens=answered)
        demand = Demand(estimate, Usage(input_tokens=given_tokens, output_tokens=answered + spare))
        now = Instant(self.now)
        before = [meter.in_use(now) for meter in self.meters]
        wanted = [meter.needed(demand) for meter in self.meters]
        holds = try_take(self.meters, demand, now)
        if holds is None:
            # All or none: a refusal changes nothing, and there was a reason.
            assert [meter.in_use(now) for meter in self.meters] == before
            assert any(
                want and used + want > meter.limit
                for meter, used, want in zip(self.meters, before, wanted, strict=True)
            )
            return
        after = [meter.in_use(now) for meter in self.meters]
        assert after == [used + want for used, want in zip(before, wanted, strict=True)]
        assert all(
            used <= meter.limit or not want for meter, used, want in zip(self.meters, after, wanted, strict=True)
        )
        reservation = Reservation(self, "x", estimate, (holds[:2], holds[2:]), now)
        number = len(self.numbers)
        self.numbers[id(reservation)] = number
        self.open.append(reservation)  # kept for ever, so that ids stay unique
        for meter, want in zip(self.meters, wanted, strict=True):
            self.books[meter.name].rows.append([self.now, want, number, None])

    def _rows(self, reservation: Reservation, name: str) -> list:
        number = self.numbers[id(reservation)]
        return [row for row in self.books[name].rows if row[2] == number]

    def _counts_still(self, name: str, row: list) -> bool:
        if name == "day":
            return row[0] // DAY == self.now // DAY
        return True  # a piece that has expired is not counted whatever its amount

    @precondition(lambda self: self.open)
    @rule(which=st.integers(0, 1000), given_tokens=st.integers(0, 60), answered=st.integers(0, 60))
    def settle(self, which, given_tokens, answered) -> None:
        reservation = self.open[which % len(self.open)]
        was_held = reservation.state is ReservationState.HELD
        actual = Usage(input_tokens=given_tokens, output_tokens=answered)
        reservation.settle(actual, Instant(self.now))
        assert reservation.state is not ReservationState.HELD
        if was_held:
            self._end(reservation, actual)

    @precondition(lambda self: self.open)
    @rule(which=st.integers(0, 1000))
    def release(self, which) -> None:
        reservation = self.open[which % len(self.open)]
        was_held = reservation.state is ReservationState.HELD
        reservation.release(Instant(self.now))
        if was_held:
            self._end(reservation, Usage(requests=0))

    @precondition(lambda self: self.open)
    @rule(which=st.integers(0, 1000))
    def expire(self, which) -> None:
        reservation = self.open[which % len(self.open)]
        was_held = reservation.state is ReservationState.HELD
        reservation.expire(Instant(self.now))
        if was_held:
            assert reservation.state is ReservationState.EXPIRED
            self._end(reservation, None)

    @precondition(lambda self: self.open)
    @rule(which=st.integers(0, 1000), answered=st.integers(0, 80))
    def extend(self, which, answered) -> None:
        reservation = self.open[which % len(self.open)]
        usage = Usage(input_tokens=reservation.estimate.input_tokens, output_tokens=answered)
        held, extended = reservation.state is ReservationState.HELD, reservation.extended
        reservation.extend(usage, Instant(self.now))
        if not held:
            assert reservation.extended == extended
            return
        assert reservation.extended >= extended
        if usage.tokens > reservation.estimate.tokens:
            for row in self._rows(reservation, "tokens"):
                if self._in_window(row):
                    row[1] = max(row[1], usage.tokens)

    def _in_window(self, row: list) -> bool:
        low = row[0] + WINDOW > self.now
        high = row[0] + WINDOW + self.meters[1]._grain_ns > self.now
        return low or high

    def _end(self, reservation: Reservation, actual: Usage | None) -> None:
        tokens = self.meters[1]
        for name in self.books:
            for row in self._rows(reservation, name):
                if name == "concurrency":
                    row[3] = self.now + self.lag
                elif actual is not None and self._counts_still(name, row):
                    if name == "tokens":
                        keeps = tokens.charge is Charge.ARRIVAL_MAX and actual.requests
                        row[1] = row[1] if keeps else actual.tokens
                    else:
                        row[1] = actual.requests

    @invariant()
    def every_limit_counts_what_the_book_says(self) -> None:
        if not hasattr(self, "books"):
            return
        for name, book in self.books.items():
            least, most = book.used(self.now)
            assert least <= book.meter.in_use(Instant(self.now)) <= most, name
            assert book.meter.used >= 0

    @invariant()
    def every_reservation_ends_once(self) -> None:
        if not hasattr(self, "open"):
            return
        for reservation in self.open:
            told = self.endings.get(self.numbers[id(reservation)], 0)
            assert told == (reservation.state is not ReservationState.HELD)


TestReservations = Reservations.TestCase
TestReservations.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
