"""Checks an export of costs with PyPI focus-validator, which carries the rules of FOCUS 1.0.

    python3 tests insights.focus EXPORT.csv

Needs `pip install focus-validator "multimethod<2"` (1.0.0: rules of 0.5, 1.0-preview and 1.0). Exit code 0: no rule is broken; and each of some
planted defects breaks one, so that the check can fail.
"""

import csv
import io
import os
import pathlib
import sys

import focus_validator
import pandas
from focus_validator.config_objects.common import ChecklistObjectStatus
from focus_validator.rules.spec_rules import SpecRules
from focus_validator.validator import DEFAULT_VERSION_SETS_PATH

# Columns that the rules of this package call by names of drafts, and their names in FOCUS 1.0.
DRAFTS = {
    "Provider": "ProviderName",
    "Publisher": "PublisherName",
    "InvoiceIssuer": "InvoiceIssuerName",
    "ResourceID": "ResourceId",
    "ChargeType": "ChargeCategory",
}
# Column, and a value that a rule forbids.
DEFECTS = [
    ("BilledCost", "much"),
    ("BillingCurrency", "XXQ"),
    ("ChargePeriodStart", "yesterday"),
    ("ServiceCategory", "Coffee"),
    ("ProviderName", ""),
    ("Tags", "none"),
]


def broken(text):
    """Rules that a CSV breaks."""
    rules = SpecRules(
        rule_set_path=DEFAULT_VERSION_SETS_PATH, rules_version="1.0", override_filename=None, column_namespace=None
    )
    rules.load()
    data = pandas.read_csv(io.StringIO(text), keep_default_na=False, na_values=["", "NULL"])
    for draft, name in DRAFTS.items():
        data[draft] = data[name]
    result = rules.validate(data)
    failed = [item for item in result.checklist.values() if item.status == ChecklistObjectStatus.FAILED]
    return sorted(item.check_name for item in failed)


def main():
    with open(sys.argv[1], newline="", encoding="utf-8") as file:
        text = file.read()
    # The package finds its list of currencies from here.
    os.chdir(pathlib.Path(focus_validator.__file__).parents[1])
    rows = list(csv.DictReader(io.StringIO(text)))
    if not rows:
        sys.exit("the export has no rows")
    found = broken(text)
    if found:
        sys.exit(f"rules that the export breaks: {found}")
    for column, value in DEFECTS:
        changed = [dict(row) for row in rows]
        changed[0][column] = value
        out = io.StringIO()
        writer = csv.DictWriter(out, rows[0].keys())
        writer.writeheader()
        writer.writerows(changed)
        if not broken(out.getvalue()):
            sys.exit(f"{column} = {value!r} breaks no rule: the check is none")
    print(f"{len(rows)} rows keep the rules of FOCUS 1.0; {len(DEFECTS)} planted defects were found")


if __name__ == "__main__":
    main()
