//! Faults of the list that meet the pages, by number. 84 is in `derived/rebuild.rs`.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::json;
use tickstream_insights::answers::Answers;
use tickstream_insights::filters::DAY;
use tickstream_insights::pages::Site;
use tickstream_insights::teams;
use tickstream_schema::events::Event;
use tickstream_schema::json::parse_event;
use tickstream_warehouse_core::query::{QueryError, Role};
use tickstream_warehouse_core::sample::planted::Facts;
use tickstream_warehouse_core::serve::Pages;

use crate::world::{NOW, WORLD, World};

/// Queries that take whatever they get: a cross join, and an expression that is tried in all ways.
const BOMBS: [&str; 2] = [
    "SELECT count(*) FROM generate_series(1, 1000000) a CROSS JOIN generate_series(1, 1000000) b WHERE a.value % 7 = b.value % 5",
    "SELECT count(*) FROM generate_series(1, 1000000000) WHERE regexp_like(repeat('a', 60), '(a|aa)+(a|aa)+(a|aa)+$')",
];

/// Bombs take all places of queries; the pages' answers are kept, and come all the same.
#[test]
fn fault_80_pages_hold_while_bombs_take_all_places() {
    let world = World::within(Vec::new(), Facts::default(), |limits| {
        (limits.time, limits.concurrent) = (Duration::from_secs(8), 2);
    });
    let answers = Answers::new(world.engine()).with_quick(Duration::ZERO).with_patience(Duration::MAX);
    let answers = Arc::new(answers);
    let site = Site::new(world.engine(), answers);
    let role = Role::local();
    world.block_on(async {
        for team in &teams::TEAMS {
            assert_eq!(site.page(&format!("/{}", team.name), "", &role).await.status, 200);
        }
        let bombs: Vec<_> = (0..6)
            .map(|number| {
                let (engine, sql) = (world.engine(), BOMBS[number % BOMBS.len()]);
                tokio::spawn(async move {
                    match engine.query(sql, &Role::local()).await {
                        Ok(answer) => answer.collect().await.map(|_| ()),
                        Err(error) => Err(error),
                    }
                })
            })
            .collect();
        tokio::time::sleep(Duration::from_millis(300)).await;
        let mut times = Vec::new();
        for team in teams::TEAMS.iter().cycle().take(40) {
            let begun = Instant::now();
            assert_eq!(site.page(&format!("/{}", team.name), "", &role).await.status, 200);
            times.push(begun.elapsed());
        }
        times.sort();
        assert!(times[37] < Duration::from_secs(2), "p95 of pages: {:?}", times[37]);
        for bomb in bombs {
            let ended = bomb.await.unwrap();
            assert!(
                matches!(ended, Err(QueryError::Time(_) | QueryError::Busy { .. } | QueryError::Run(_))),
                "{ended:?}"
            );
        }
        // The process goes on.
        let sql = "SELECT count(*) FROM events";
        assert_eq!(world.engine().query(sql, &role).await.unwrap().collect().await.unwrap()[0].num_rows(), 1);
    });
}

/// Requests that a page of another site makes a browser on this host send.
#[test]
fn fault_87_no_cookie_no_change_and_no_file_beside_the_pages() {
    let address = WORLD.listen();
    let ask = |request: &str| -> String {
        let mut socket = TcpStream::connect(address).unwrap();
        socket.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
        write!(socket, "{request}\r\nConnection: close\r\n\r\n").unwrap();
        let mut answer = Vec::new();
        socket.read_to_end(&mut answer).unwrap();
        String::from_utf8_lossy(&answer).into_owned()
    };
    let own = format!("Host: {address}");
    let page = ask(&format!("GET / HTTP/1.1\r\n{own}"));
    assert!(page.starts_with("HTTP/1.1 200 "), "{page}");
    // There is no cookie to steal, and none that is taken.
    assert!(!page.to_lowercase().contains("set-cookie"), "{page}");
    let framed = page.to_lowercase();
    assert!(framed.contains("frame-ancestors 'none'") && framed.contains("form-action 'self'"), "{page}");
    for (request, status) in [
        (format!("POST /marketing HTTP/1.1\r\n{own}\r\nContent-Length: 0"), 405),
        (format!("DELETE /user/x HTTP/1.1\r\n{own}"), 405),
        ("GET / HTTP/1.1\r\nHost: attacker.example".to_owned(), 401),
        (format!("GET / HTTP/1.1\r\n{own}\r\nOrigin: https://attacker.example"), 401),
        (
            format!("POST /v1/query HTTP/1.1\r\n{own}\r\nOrigin: null\r\nContent-Length: 8\r\n\r\nSELECT 1"),
            401,
        ),
        (format!("GET /static/../../../etc/passwd HTTP/1.1\r\n{own}"), 404),
        (format!("GET /static/%2e%2e/%2e%2e/etc/passwd HTTP/1.1\r\n{own}"), 404),
        (format!("GET /etc/passwd HTTP/1.1\r\n{own}"), 404),
        (format!("GET /marketing/channels.html/..%2f..%2fx HTTP/1.1\r\n{own}"), 404),
    ] {
        let answer = ask(&request);
        assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{request}: {answer}");
        assert!(!answer.contains("root:"), "{answer}");
    }
}

/// Events of one session of one user.
fn of_one(count: u32) -> Vec<Event> {
    let event = |number: u32| {
        let time = tickstream_insights::filters::time_text(NOW - DAY + i64::from(number) * 2_000_000_000);
        let event = json!({"event_id": format!("e8000000-0000-8000-8000-{number:012x}"), "timestamp": time, "platform": "web",
            "session_id": "one", "user_id": "ada", "event_type": "user_interaction",
            "event_name": (["product_viewed", "added_to_cart", "purchased"][number as usize % 3]),
            "user_interaction": {"properties": {"screen_name": "home", "action": "tap"}}});
        parse_event(&event.to_string()).unwrap()
    };
    (0..count).map(event).collect()
}

/// Ten times the events of one user and session take about ten times as long, and their pages stay small.
#[test]
fn fault_95_one_user_with_very_many_events_has_pages_within_bounds() {
    let few = World::new(of_one(2_000), Facts::default());
    let many = World::new(of_one(20_000), Facts::default());
    let to = "to=2026-11-28T09:13:54Z";
    let pages = [
        (
            format!("/user/{}", few.identifier("ada")),
            format!("/user/{}", many.identifier("ada")),
            to.to_owned(),
        ),
        (
            format!("/session/{}", few.identifier("one")),
            format!("/session/{}", many.identifier("one")),
            String::new(),
        ),
        (
            "/explore".into(),
            "/explore".into(),
            format!("{to}&kind=funnel&step=product_viewed&step=added_to_cart&step=purchased"),
        ),
        ("/explore".into(), "/explore".into(), format!("{to}&kind=paths")),
        ("/explore".into(), "/explore".into(), format!("{to}&kind=retention")),
        ("/marketing/engagement".into(), "/marketing/engagement".into(), to.to_owned()),
    ];
    let timed = |world: &World, path: &str, query: &str| {
        let begun = Instant::now();
        let page = world.page(path, query, &Role::local());
        assert_eq!(page.status, 200, "{path}?{query}");
        assert!(page.body.len() < 4 << 20, "{path}?{query}: {} bytes", page.body.len());
        begun.elapsed()
    };
    for (of_few, of_many, query) in pages {
        timed(&few, &of_few, &query);
        let (short, long) = (timed(&few, &of_few, &query), timed(&many, &of_many, &query));
        assert!(
            long < short * 40 + Duration::from_millis(500),
            "{of_many}?{query}: {short:?}, then {long:?}"
        );
    }
}
