//! Tables that are derived from events and kept up to date: their names, columns and personal data.
//!
//! Each has parts that are exchanged whole. Commits to the table of events make parts dirty; these are computed anew, and one
//! commit exchanges them and notes the version up to which commits were looked at. So what is kept equals a rebuild. The
//! crate `insights` computes them.

use std::sync::Arc;

use deltalake::arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};

/// Column of the parts.
pub const PART: &str = "part";

/// Type of a column.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A text that describes nobody.
    Text,
    /// An identifier of a person, a device or a session: erased with it, and masked as a pseudonym.
    Identifier,
    /// A text that may describe a person: masked as null.
    Content,
    /// A whole number.
    Integer,
    /// A number.
    Number,
    /// An amount of money, to the billionth.
    Amount,
    /// A time.
    Time,
    /// A sketch, for `uniques_merge`.
    Sketch,
}

/// A derived table.
#[derive(Debug)]
pub struct Derived {
    /// Its name, in SQL and below the root.
    pub name: &'static str,
    /// Version of the computation: a table of another one is computed anew.
    pub computation: i64,
    /// Its columns.
    pub columns: &'static [(&'static str, Kind)],
}

use Kind::{Amount, Content, Identifier, Integer, Number, Sketch, Text, Time};

/// Person behind each id that an event linked to another.
pub const USER_IDENTITIES: Derived = Derived {
    name: "user_identities",
    computation: 1,
    columns: &[("id", Identifier), ("person", Identifier)],
};

/// Sessions of persons, stitched over all ids that belong to them. A part for each day and bucket of persons.
pub const USER_SESSIONS: Derived = Derived {
    name: "user_sessions",
    computation: 1,
    columns: &[
        ("person", Identifier),
        ("begin", Time),
        ("end", Time),
        ("begin_ns", Integer),
        ("end_ns", Integer),
        ("duration_s", Number),
        ("events", Integer),
        ("interactions", Integer),
        ("video_events", Integer),
        ("ids", Integer),
        ("session_id", Identifier),
        ("platform", Text),
        ("app_version", Text),
        ("country", Text),
        ("device_type", Text),
        ("channel", Text),
        ("campaign", Text),
        ("entry_screen", Text),
        ("exit_screen", Text),
        ("entry_event", Text),
        ("exit_event", Text),
        ("revenue", Number),
    ],
};

/// Errors of each day by group, service and release. A part for each day.
pub const ERROR_DAYS: Derived = Derived {
    name: "error_days",
    computation: 1,
    columns: &[
        ("day", Time),
        ("group_id", Text),
        ("service", Text),
        ("release", Text),
        ("source", Text),
        ("exception", Text),
        ("title", Content),
        ("errors", Integer),
        ("first_ns", Integer),
        ("last_ns", Integer),
        ("event_id", Text),
        ("trace_id", Text),
        ("users", Sketch),
    ],
};

/// Groups of errors. One part.
pub const ERROR_TRACKING: Derived = Derived {
    name: "error_tracking",
    computation: 1,
    columns: &[
        ("group_id", Text),
        ("service", Text),
        ("source", Text),
        ("exception", Text),
        ("title", Content),
        ("errors", Integer),
        ("users", Integer),
        ("days", Integer),
        ("first_seen", Time),
        ("last_seen", Time),
        ("first_release", Text),
        ("last_release", Text),
        ("releases", Text),
        ("regressed_in", Text),
        ("event_id", Text),
        ("trace_id", Text),
    ],
};

/// Costs as FOCUS has them, each shared out to owners. A part for each day.
pub const COST_ANALYSIS: Derived = Derived {
    name: "cost_analysis",
    computation: 1,
    columns: &[
        ("event_id", Text),
        ("timestamp_ns", Integer),
        ("owner", Text),
        ("owner_kind", Text),
        ("allocation", Text),
        ("share", Number),
        ("billed_cost", Amount),
        ("effective_cost", Amount),
        ("list_cost", Amount),
        ("contracted_cost", Amount),
        ("pricing_quantity", Number),
        ("consumed_quantity", Number),
        ("list_unit_price", Number),
        ("contracted_unit_price", Number),
        ("billing_currency", Text),
        ("billing_period_start", Time),
        ("billing_period_end", Time),
        ("charge_period_start", Time),
        ("charge_period_end", Time),
        ("charge_category", Text),
        ("charge_class", Text),
        ("charge_description", Content),
        ("charge_frequency", Text),
        ("provider_name", Text),
        ("publisher_name", Text),
        ("invoice_issuer_name", Text),
        ("invoice_id", Text),
        ("billing_account_id", Text),
        ("billing_account_name", Content),
        ("sub_account_id", Text),
        ("sub_account_name", Content),
        ("service_name", Text),
        ("service_category", Text),
        ("service_subcategory", Text),
        ("region_id", Text),
        ("region_name", Text),
        ("availability_zone", Text),
        ("resource_id", Text),
        ("resource_name", Text),
        ("resource_type", Text),
        ("sku_id", Text),
        ("sku_price_id", Text),
        ("pricing_category", Text),
        ("pricing_unit", Text),
        ("consumed_unit", Text),
        ("commitment_discount_id", Text),
        ("commitment_discount_status", Text),
        ("tags", Content),
    ],
};

/// All of them.
pub static DERIVED: [&Derived; 5] =
    [&USER_IDENTITIES, &USER_SESSIONS, &ERROR_DAYS, &ERROR_TRACKING, &COST_ANALYSIS];

/// Digits after the point of an amount.
pub const AMOUNT_SCALE: i8 = 9;

impl Derived {
    /// Columns of the table, with that of the parts.
    pub fn schema(&self) -> SchemaRef {
        let mut fields = self.fields();
        fields.push(Field::new(PART, DataType::Utf8, false));
        Arc::new(Schema::new(fields))
    }

    /// Columns that are in the files.
    pub fn file_schema(&self) -> SchemaRef {
        Arc::new(Schema::new(self.fields()))
    }

    fn fields(&self) -> Vec<Field> {
        self.columns.iter().map(|(name, kind)| Field::new(*name, kind.data_type(), true)).collect()
    }
}

impl Kind {
    /// Type in the files.
    pub fn data_type(self) -> DataType {
        match self {
            Text | Identifier | Content => DataType::Utf8,
            Integer => DataType::Int64,
            Number => DataType::Float64,
            Amount => DataType::Decimal128(38, AMOUNT_SCALE),
            Time => DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())),
            Sketch => DataType::Binary,
        }
    }
}
