//! Costs as FOCUS 1.0 has them (FinOps Open Cost and Usage Specification), from `cost_analysis`: each part of a cost with its owner.
//!
//! Columns that the specification demands and a bill lacks are filled in by its own rules: costs from the effective or billed one, the
//! billing period from the month, names from the provider's. Values outside of its lists become "Other", or nothing where it
//! allows that. Columns of our own begin with `x_`.

use crate::filters::Filters;

/// Time as the specification has it.
const TIME: &str = "'%Y-%m-%dT%H:%M:%SZ'";
/// Values of ServiceCategory.
const CATEGORIES: [&str; 19] = [
    "AI and Machine Learning",
    "Analytics",
    "Business Applications",
    "Compute",
    "Databases",
    "Developer Tools",
    "Multicloud",
    "Identity",
    "Integration",
    "Internet of Things",
    "Management and Governance",
    "Media",
    "Migration",
    "Mobile",
    "Networking",
    "Security",
    "Storage",
    "Web",
    "Other",
];
const CHARGES: [&str; 5] = ["Usage", "Purchase", "Tax", "Credit", "Adjustment"];
const FREQUENCIES: [&str; 3] = ["One-Time", "Recurring", "Usage-Based"];
const PRICINGS: [&str; 4] = ["Standard", "Dynamic", "Committed", "Other"];
const STATUSES: [&str; 2] = ["Used", "Unused"];

/// SQL of the rows of a period.
pub fn sql(filters: &Filters) -> String {
    let columns: Vec<_> =
        columns().into_iter().map(|(name, value)| format!("{value} AS \"{name}\"")).collect();
    format!(
        "SELECT {} FROM cost_analysis WHERE timestamp_ns >= {} AND timestamp_ns < {} ORDER BY timestamp_ns, event_id, owner",
        columns.join(", "),
        filters.from,
        filters.to
    )
}

/// Columns and their SQL.
fn columns() -> Vec<(&'static str, String)> {
    let same = |column: &str| column.to_owned();
    let time = |value: &str| format!("to_char({value}, {TIME})");
    let month = "date_trunc('month', charge_period_start)";
    let effective = "coalesce(effective_cost, billed_cost)";
    let provider = "coalesce(provider_name, 'unknown')";
    let number = |column: &str| format!("CAST({column} AS DOUBLE)");
    vec![
        ("AvailabilityZone", same("availability_zone")),
        ("BilledCost", same("billed_cost")),
        ("BillingAccountId", format!("coalesce(billing_account_id, {provider})")),
        ("BillingAccountName", same("billing_account_name")),
        ("BillingCurrency", same("billing_currency")),
        ("BillingPeriodEnd", time(&format!("coalesce(billing_period_end, {month} + INTERVAL '1 month')"))),
        ("BillingPeriodStart", time(&format!("coalesce(billing_period_start, {month})"))),
        ("ChargeCategory", listed("charge_category", &CHARGES, "'Usage'")),
        ("ChargeClass", listed("charge_class", &["Correction"], "NULL")),
        ("ChargeDescription", same("charge_description")),
        ("ChargeFrequency", listed("charge_frequency", &FREQUENCIES, "'Usage-Based'")),
        ("ChargePeriodEnd", time("charge_period_end")),
        ("ChargePeriodStart", time("charge_period_start")),
        ("CommitmentDiscountCategory", "CAST(NULL AS VARCHAR)".to_owned()),
        ("CommitmentDiscountId", same("commitment_discount_id")),
        ("CommitmentDiscountName", "CAST(NULL AS VARCHAR)".to_owned()),
        ("CommitmentDiscountStatus", listed("commitment_discount_status", &STATUSES, "NULL")),
        ("CommitmentDiscountType", "CAST(NULL AS VARCHAR)".to_owned()),
        ("ConsumedQuantity", number("consumed_quantity")),
        ("ConsumedUnit", same("consumed_unit")),
        ("ContractedCost", format!("coalesce(contracted_cost, {effective})")),
        ("ContractedUnitPrice", number("contracted_unit_price")),
        ("EffectiveCost", effective.to_owned()),
        ("InvoiceIssuerName", format!("coalesce(invoice_issuer_name, {provider})")),
        ("ListCost", format!("coalesce(list_cost, contracted_cost, {effective})")),
        ("ListUnitPrice", number("list_unit_price")),
        ("PricingCategory", listed("pricing_category", &PRICINGS, "NULL")),
        ("PricingQuantity", number("pricing_quantity")),
        ("PricingUnit", same("pricing_unit")),
        ("ProviderName", provider.to_owned()),
        ("PublisherName", format!("coalesce(publisher_name, {provider})")),
        ("RegionId", same("region_id")),
        ("RegionName", same("region_name")),
        ("ResourceId", same("resource_id")),
        ("ResourceName", same("resource_name")),
        ("ResourceType", same("resource_type")),
        ("ServiceCategory", listed("service_category", &CATEGORIES, "'Other'")),
        ("ServiceName", "coalesce(service_name, 'unknown')".to_owned()),
        ("SkuId", same("sku_id")),
        ("SkuPriceId", "coalesce(sku_price_id, sku_id, service_name, 'unknown')".to_owned()),
        ("SubAccountId", same("sub_account_id")),
        ("SubAccountName", same("sub_account_name")),
        ("Tags", "coalesce(tags, '{}')".to_owned()),
        ("x_Allocation", same("allocation")),
        ("x_Owner", same("owner")),
        ("x_OwnerKind", same("owner_kind")),
        ("x_Share", same("share")),
    ]
}

/// A text if it is one of a list, else another.
fn listed(column: &str, values: &[&str], other: &str) -> String {
    let values: Vec<_> = values.iter().map(|value| crate::filters::literal(value)).collect();
    format!("CASE WHEN {column} IN ({}) THEN {column} ELSE {other} END", values.join(", "))
}
