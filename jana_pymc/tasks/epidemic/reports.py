"""Daily reports of an epidemic from a CSV file."""

from __future__ import annotations

import re
from collections.abc import Mapping
from os import PathLike
from types import MappingProxyType

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from jana_pymc.checks import check_choice, check_switch
from jana_pymc.tasks.epidemic.simulator import OBSERVABLES

ROUNDING = 1e-6
"""Share of its largest report by which a series may lie below zero."""

SAME_NAMES: Mapping[str, str] = MappingProxyType({name: name for name in OBSERVABLES})


def load_reports(
    path: str | PathLike[str],
    *,
    columns: Mapping[str, str] = SAME_NAMES,
    date: str | None = "date",
    start: str | None = None,
    end: str | None = None,
    cumulative: bool = False,
    negative: str = "error",
) -> dict[str, NDArray[np.float64]]:
    """Read what was reported, one row a day.

    Parameters
    ----------
    path : path
        CSV file with a header, in UTF-8. Other columns than those named are ignored.
    columns : mapping of str to str
        The file's names of ``cases``, ``recoveries`` and ``deaths``, all three, if any differs.
    date : str, optional
        Name of the column of dates; None if there is none, and rows are successive days.
    start, end : str, optional
        First and last day to take, such as ``"2020-03-01"``.
    cumulative : bool
        The numbers are totals up to each day. Reports are their differences, so that the day
        before the first report is needed too: the file's first day, or the one before `start`.
    negative : {"error", "zero"}
        What to do with negative reports, which stand for corrections of earlier ones.

    Returns
    -------
    dict of str to ndarray, shape (days,)
        ``cases``, ``recoveries``, ``deaths``, ready to be given to an approximator.

    Raises
    ------
    TypeError
        If `columns` names anything but the three series, or `cumulative` is no bool.
    ValueError
        If `negative` is unknown; if the file is empty or no table; if columns are missing, have the
        same name or stand for two series; if `start` or `end` is not in the file, or a row has no
        date; if from `start` to `end` values are missing, not numbers or negative, or days are
        repeated, left out or not in order. What is outside of these days is ignored.

    Examples
    --------
    >>> import tempfile, pathlib
    >>> path = pathlib.Path(tempfile.mkdtemp()) / "reports.csv"
    >>> _ = path.write_text(
    ...     "date,confirmed,recoveries,deaths\\n2020-03-01,38,0,0\\n2020-03-02,55,2,1\\n"
    ... )
    >>> load_reports(
    ...     path, columns={"cases": "confirmed", "recoveries": "recoveries", "deaths": "deaths"}
    ... )["cases"]
    array([38., 55.])
    """
    series = ", ".join(map(repr, OBSERVABLES))
    if not isinstance(columns, Mapping):
        raise TypeError(f"columns={columns!r}: expected a mapping from all three of {series}.")
    if set(columns) != set(OBSERVABLES):
        raise TypeError(
            f"columns names {', '.join(map(repr, columns)) or 'nothing'}; expected all three of "
            f"{series}, also those whose name in the file is the same."
        )
    if len(set(columns.values())) < len(OBSERVABLES):
        raise ValueError(
            f"columns takes {', '.join(map(repr, columns.values()))} for {series}; expected a "
            "different column for each."
        )
    check_switch("cumulative", cumulative)
    check_choice("negative", negative, ("error", "zero"))
    table = _read(path)
    _check_columns(table, [*columns.values(), *([] if date is None else [date])], date)
    table, days = _chosen(table, date, start, end, cumulative)
    if len(days) <= cumulative:
        raise ValueError(
            "no reports are left: end is before start, or a single day has no difference."
        )
    reports = {name: _numbers(table[columns[name]], days) for name in OBSERVABLES}
    if cumulative:
        # The first row holds the totals before the first report.
        reports = {name: np.diff(each) for name, each in reports.items()}
        days = days[1:]
    for name, values in reports.items():
        if (values < 0.0).any() and negative == "error":
            row = int(np.argmax(values < 0.0))
            raise ValueError(
                f"column {columns[name]!r} has {int((values < 0.0).sum())} negative reports, the "
                f"first on {days[row]} ({values[row]:g}); correct them, or take them for "
                "zero with negative='zero'."
                + ("" if cumulative else " If the numbers are totals, say cumulative=True.")
            )
    return {name: np.maximum(values, 0.0) for name, values in reports.items()}


def series_of_reports(reports: Mapping[str, ArrayLike]) -> dict[str, NDArray[np.float64]]:
    """The three series as arrays of numbers, checked to be of the same days.

    Parameters
    ----------
    reports : mapping of str to array, shape (..., n_obs)
        ``cases``, ``recoveries`` and ``deaths``.

    Raises
    ------
    ValueError
        If a series is missing, empty or of another shape than the first, or has a value that is
        NaN, infinite, or below zero by more than rounding.
    """
    missing = [name for name in OBSERVABLES if name not in reports]
    if missing:
        raise ValueError(f"reports lack {', '.join(missing)}.")
    series = {name: np.asarray(reports[name], dtype=np.float64) for name in OBSERVABLES}
    first = series[OBSERVABLES[0]].shape
    for name, values in series.items():
        if not values.ndim or not values.size or values.shape != first:
            raise ValueError(
                f"reports of {name!r} have shape {values.shape}"
                + (f", those of {OBSERVABLES[0]!r} {first}" if values.shape != first else "")
                + "; expected (..., n_obs), the same for all three."
            )
        if not np.isfinite(values).all():
            raise ValueError(
                f"reports of {name!r} have {int((~np.isfinite(values)).sum())} values that are NaN "
                "or infinite; expected a number for each day: fill them in, or choose other days."
            )
        # What restored_reports gives back may lie below zero by rounding.
        if values.min() < -ROUNDING * max(values.max(), 1.0):
            raise ValueError(
                f"reports of {name!r} have negative values, the lowest {values.min():g}; expected "
                "people per day, not standardised: correct them, or take them for zero."
            )
    return series


def _read(path: str | PathLike[str]) -> pd.DataFrame:
    """The file's entries as text, under the names in its first row."""
    try:
        # The header is read as a row, else longer rows shift columns, and repeated names change.
        rows = pd.read_csv(path, header=None, dtype=str)
    except pd.errors.EmptyDataError:
        raise ValueError(f"the file {path} is empty; expected a header and a row a day.") from None
    except UnicodeDecodeError:
        raise ValueError(f"the file {path} is no text in UTF-8; expected a CSV file.") from None
    except IsADirectoryError:
        raise ValueError(f"{path} is a folder; expected a CSV file.") from None
    except pd.errors.ParserError as error:
        found = re.search(r"Expected (\d+) fields in line (\d+), saw (\d+)", str(error))
        if found is None:
            raise ValueError(f"the file {path} cannot be read as a CSV file.") from None
        expected, line, seen = found.groups()
        raise ValueError(
            f"line {line} of the file has {seen} fields, but the header has {expected}; expected "
            "as many. Correct the file: is a comma in a number, or a name missing in the header?"
        ) from None
    names = rows.iloc[0].fillna("").str.strip()
    repeated = names[names.duplicated() & (names != "")].unique()
    if len(repeated):
        raise ValueError(
            f"the file has more than one column {', '.join(map(repr, repeated))}; expected "
            "different names. Rename or remove all but one."
        )
    table = rows.iloc[1:].reset_index(drop=True)
    table.columns = pd.Index(names.to_list())
    return table


def _check_columns(table: pd.DataFrame, wanted: list[str], date: str | None) -> None:
    missing = [name for name in wanted if name not in table.columns]
    if missing:
        advice = "Name them by columns={...}."
        if len(table.columns) == 1 and ";" in table.columns[0]:
            advice = "Its entries are separated by semicolons; expected commas."
        if missing == [date]:
            advice = "Name it by date=, or say date=None if there are no dates."
        raise ValueError(
            f"the file has no column {', '.join(map(repr, missing))}; it has "
            f"{', '.join(map(repr, table.columns))}. {advice}"
        )
    if table.empty:
        raise ValueError("the file has a header, but no rows.")


def _chosen(
    table: pd.DataFrame, date: str | None, start: str | None, end: str | None, cumulative: bool
) -> tuple[pd.DataFrame, list[str]]:
    """Rows of the chosen days, checked to be successive, and the names of these days."""
    if date is None:
        if not (start is None and end is None):
            raise ValueError(
                "start and end choose days by date: name the column of dates by date=."
            )
        return table, [f"row {row + 1}" for row in range(len(table))]
    dates = _dates(table, date)
    names = dates.dt.strftime("%Y-%m-%d")
    first, last = _day("start", start, names), _day("end", end, names)
    if cumulative and first is not None:
        before = f"{pd.Timestamp(first) - pd.Timedelta(days=1):%Y-%m-%d}"
        if before not in names.to_numpy():
            raise ValueError(
                f"start={start!r}: with cumulative=True the day before is needed too, and "
                f"{before} is not in the file; choose a later start."
            )
        first = before
    # Written like this, days have the order of their names.
    chosen = np.ones(len(names), dtype=bool)
    chosen &= True if first is None else (names >= first).to_numpy()
    chosen &= True if last is None else (names <= last).to_numpy()
    dates, names = dates[chosen], names[chosen]
    steps = dates.diff().iloc[1:] != pd.Timedelta(days=1)
    if steps.any():
        row = int(np.argmax(steps.to_numpy())) + 1
        raise ValueError(
            f"column {date!r} goes from {names.iloc[row - 1]} to {names.iloc[row]}; expected one "
            "row for each day, in order."
        )
    return table[chosen], names.to_list()


def _dates(table: pd.DataFrame, date: str) -> pd.Series:
    """Dates of all rows; each needs one, which says whether the row is chosen."""
    try:
        dates = pd.to_datetime(table[date], format="ISO8601", errors="coerce")
    except (ValueError, TypeError):
        raise ValueError(
            f"column {date!r} mixes dates of different kinds; expected all like 2020-03-01."
        ) from None
    wrong = (dates.isna() & table[date].notna()).to_numpy()
    if wrong.any():
        row = int(np.argmax(wrong))
        raise ValueError(
            f"column {date!r} has entries that are no dates like 2020-03-01, the first in row "
            f"{row + 1}: {table[date].iloc[row]!r}."
        )
    if dates.isna().any():
        raise ValueError(f"column {date!r} has no date in row {int(dates.isna().argmax()) + 1}.")
    return dates


def _day(what: str, day: str | None, names: pd.Series) -> str | None:
    """Name in the file of the day that was asked for."""
    if day is None:
        return None
    try:
        wanted = f"{pd.Timestamp(day):%Y-%m-%d}"
    except (ValueError, TypeError):
        raise ValueError(f"{what}={day!r}: expected a date like '2020-03-01'.") from None
    if wanted not in names.to_numpy():
        raise ValueError(
            f"{what}={day!r} is not in the file, from {names.iloc[0]} to {names.iloc[-1]}."
        )
    return wanted


def _numbers(column: pd.Series, days: list[str]) -> NDArray[np.float64]:
    values = pd.to_numeric(column, errors="coerce").to_numpy(dtype=np.float64)
    if not np.isfinite(values).all():
        row = int(np.argmin(np.isfinite(values)))
        entry = "nothing" if pd.isna(column.iloc[row]) else repr(column.iloc[row])
        raise ValueError(f"column {column.name!r} has {entry} on {days[row]}; expected a number.")
    return values
