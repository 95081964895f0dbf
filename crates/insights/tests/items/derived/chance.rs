//! Events that come and go at random.

use serde_json::{Value, json};
use tickstream_schema::events::Event;

use super::{DAY, MINUTE, START, click, event, merge, time_of};

/// Events that come and go at random.
pub struct Chance {
    pub random: fastrand::Rng,
    number: u32,
    sent: Vec<Event>,
}

impl Chance {
    pub fn new(seed: u64) -> Self {
        Self { random: fastrand::Rng::with_seed(seed), number: 0, sent: Vec::new() }
    }

    fn who(&mut self) -> Value {
        let user = format!("user-{}", self.random.u8(..4));
        let device = format!("device-{}", self.random.u8(..6));
        match self.random.u8(..3) {
            0 => json!({"user_id": user}),
            1 => json!({"anonymous_id": device}),
            _ => json!({"user_id": user, "anonymous_id": device}),
        }
    }

    pub fn batch(&mut self) -> Vec<Event> {
        let mut events = Vec::new();
        for _ in 0..1 + self.random.usize(..3) {
            let mut time = START + self.random.i64(0..6 * 1_440) * MINUTE;
            let who = self.who();
            // Now and then activity without a pause for more than a day.
            let count = if self.random.u8(..8) == 0 { 80 } else { 1 + self.random.usize(..6) };
            for _ in 0..count {
                self.number += 1;
                events.push(self.one(time, &who));
                time += self.random.i64(0..40) * MINUTE;
            }
        }
        // What came before comes again.
        for _ in 0..self.random.usize(..3).min(self.sent.len()) {
            events.push(self.sent[self.random.usize(..self.sent.len())].clone());
        }
        self.sent.extend(events.iter().cloned());
        events
    }

    fn one(&mut self, time: i64, who: &Value) -> Event {
        let number = self.number;
        match self.random.u8(..12) {
            0 => event(
                number,
                time,
                "identify",
                "identify",
                &json!({"identify": {}, "user_id": format!("user-{}", number % 4),
                "anonymous_id": format!("device-{}", number % 6)}),
            ),
            1 => event(
                number,
                time,
                "alias",
                "alias",
                &json!({"alias": {"previous_id": format!("user-{}", number % 3),
                "user_id": format!("user-{}", 3 + number % 3)}}),
            ),
            2 => event(
                number,
                time,
                "log",
                "log",
                &json!({"log": {"service": "shop", "level": "error",
                "message": format!("order {number} of \"user-1\" failed")}}),
            ),
            3 => {
                let mut more = json!({"app": {"name": "shop", "version": format!("{}", number % 3)}, "crash": {"type": "exception",
                    "exception_type": "E", "message": format!("no {number}"), "stack_trace": format!("at f{} (a.js:1)", number % 2)}});
                merge(&mut more, who);
                event(number, time, "crash", "crash", &more)
            }
            4 => {
                let day = time / DAY * DAY;
                let resource = ["web-1", "db-1"][number as usize % 2];
                let tags = if number.is_multiple_of(3) { json!({"feature": "film"}) } else { json!({}) };
                event(
                    number,
                    day,
                    "cost",
                    "compute",
                    &json!({"cost": {"billed_cost": 0.1 * f64::from(number), "effective_cost": 0.07 * f64::from(number),
                    "billing_currency": "EUR", "charge_period_start": time_of(day), "charge_period_end": time_of(day + DAY),
                    "resource_id": resource, "service_name": "Compute", "tags": tags}}),
                )
            }
            5 => event(
                number,
                time,
                "infrastructure_metric",
                "host",
                &json!({"infrastructure_metric": {"resource_type": "vm",
                "resource_id": "web-1", "measurements": {"cpu_usage": f64::from(number % 10) / 10.0}}}),
            ),
            _ => click(number, time, who),
        }
    }
}
