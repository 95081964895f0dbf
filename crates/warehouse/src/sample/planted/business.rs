//! A cloud bill of 60 days, with a spike, and spend on advertisements.

use serde_json::{Value, json};

use super::plant::{DAYS, Plant};
use crate::sample::common::{DAY, merge, time};

/// Days of the bill.
pub const BILL_DAYS: u64 = 60;
/// Cost of a day by resource, service and region.
pub const HOSTS: [(&str, u64); 5] =
    [("web-1", 10), ("web-2", 10), ("db-1", 20), ("idle-1", 5), ("big-1", 15)];
/// Cost of delivery a day, and its quantity, GB.
pub const DELIVERY: (u64, u64) = (12, 100);
/// Cost of delivery on the day of the spike, so many days ago.
pub const SPIKE: (u64, u64) = (3, 200);
/// Spend on the campaign `autumn_sale` a day, on the last 29 days.
pub const SPEND: u64 = 30;

/// Adds them.
pub fn plant(plant: &mut Plant) {
    for days in 1..=BILL_DAYS {
        for (host, cost) in HOSTS {
            charge(
                plant,
                days,
                cost,
                json!({"service_name": "Compute", "resource_id": host, "resource_type": "vm", "region_id": "eu-1",
                "consumed_quantity": 24, "consumed_unit": "Hours"}),
            );
        }
        let cost = if days == SPIKE.0 { SPIKE.1 } else { DELIVERY.0 };
        charge(
            plant,
            days,
            cost,
            json!({"service_name": "Delivery", "resource_id": "cdn", "region_id": "eu-1",
            "consumed_quantity": DELIVERY.1, "consumed_unit": "GB", "tags": {"feature": "player"}}),
        );
        if days < DAYS {
            charge(
                plant,
                days,
                SPEND,
                json!({"service_name": "Advertising", "tags": {"campaign": "autumn_sale", "feature": "advertising"}}),
            );
        }
    }
}

fn charge(plant: &mut Plant, days: u64, cost: u64, more: Value) {
    let at = plant.days_ago(days, 0);
    let mut body = json!({"billed_cost": cost, "effective_cost": cost, "billing_currency": "EUR", "charge_category": "Usage",
        "provider_name": "Example Cloud", "charge_period_start": time(at), "charge_period_end": time(at + DAY)});
    merge(&mut body, more);
    plant.push(at, "cloud", "cost", "charge", body, json!({}));
}
