use std::fs;
use std::path::PathBuf;

use ratatui::Terminal;
use ratatui::backend::TestBackend;
use serde_json::{Value, json};

use super::*;

const THEME: Theme = Theme { colours: false, ascii: false };

/// A process after `seconds`, with everything that can be shown.
fn snapshot(seconds: u64) -> Snapshot {
    let pagesets: Vec<Value> = (0..2)
        .flat_map(|cpu| {
            let lists = [
                ("Unmovable", 0, 400 + 10 * cpu, 1024),
                ("Movable", 9, 512, 1024),
                ("Movable", 0, 0, 1024),
            ];
            lists.map(|(kind, order, count, high)| {
                json!({"cpu": cpu, "type": kind, "order": order, "count": count,
                        "high": high, "batch": 64})
            })
        })
        .collect();
    let zone = |node: u8, name: &str, free: u64| {
        let blocks = [7, 0, 3, 0, 0, 1, 0, 0, 0, 2, free >> 10];
        let kind = |name| json!({"type": name, "free_blocks": blocks, "pageblocks": 9});
        json!({"node": node, "zone": name, "free": free, "min": 1000, "low": 1250, "high": 1500,
            "spanned": 65536, "present": 65536, "managed": 65536, "protection": [0, 0, 0, 0],
            "start_pfn": 0, "free_blocks": blocks, "types": [kind("Unmovable"), kind("Movable")],
            "pagesets": pagesets, "shards": [free / 2, free / 2]})
    };
    let account = |number: u64, parent: Option<u64>, current: u64, max: Option<u64>| {
        json!({"number": number, "parent": parent, "current": current, "peak": current + 9,
            "max": max, "high": null, "nr_high": 0, "nr_max": number})
    };
    let document = json!({
        "process": {"program": "nfsd", "version": "0.1.0", "pid": 4711,
            "uptime_us": (7380 + seconds) * 1_000_000},
        "allocators": [{
            "name": "requests",
            "zones": [zone(0, "Normal", 40_000), zone(1, "Movable", 1_100)],
            "vmstat": {"pgalloc_normal": 1_000_000 + 250_000 * seconds, "pgalloc_movable": 0,
                "pgfree": 900_000 + 240_000 * seconds, "numa_other": 40 * seconds, "numa_miss": 0},
            "accounts": [account(1, None, 9_000, Some(20_000)), account(2, Some(1), 8_000, Some(8_000)),
                account(3, None, 5, None), account(4, None, 0, Some(100))],
        }],
        "pools": [{"name": "rx", "inflight": 2048,
            "counters": {"rx_pp_alloc_fast": 64 * seconds, "rx_pp_alloc_slow": 0,
                "rx_pp_alloc_slow_ho": 0, "rx_pp_recycle_cached": 0, "rx_pp_recycle_ring": 8 * seconds}}],
        "sections": sections(seconds),
    });
    serde_json::from_value(document).expect("it is a snapshot")
}

/// The sections of the process.
fn sections(seconds: u64) -> Value {
    let queue_columns = ["packets", "no frame", "ring full", "dropped", "malformed", "down"]
        .map(|name| json!({"name": name, "kind": "counter", "unit": "count"}));
    json!([{
        "name": "nfs", "title": "NFS", "taken_us": 1 + seconds * 1_000_000,
        "figures": [
            {"name": "calls", "title": "RPC calls, all programs", "kind": "counter",
                "unit": "count", "value": 18_000 * seconds},
            {"name": "sent", "kind": "counter", "unit": "bytes", "value": seconds << 26},
            {"name": "connections", "kind": "gauge", "unit": "count", "value": 3},
        ],
        "tables": [
            {"name": "exports", "labels": ["export", "clients"],
                "columns": [
                    {"name": "calls", "kind": "counter", "unit": "count"},
                    {"name": "read", "kind": "counter", "unit": "bytes"},
                ],
                "rows": [
                    {"labels": ["/srv/home", "10.0.0.0/8(rw)"], "values": [10 * seconds, 0]},
                    {"labels": ["/srv/very/long/path/to/projects", "*(ro)"],
                        "values": [17_000 * seconds, seconds << 26]},
                ]},
            {"name": "clients", "labels": ["address"], "columns": [], "rows": []},
        ],
    }, {
        "name": "xdp", "title": "XDP", "taken_us": 1 + seconds * 1_000_000,
        "figures": [
            {"name": "received", "title": "packets received", "kind": "counter", "unit": "count",
                "value": 2_000_000 * seconds},
        ],
        "tables": [{"name": "queues", "labels": ["queue", "direction"],
            "columns": queue_columns,
            "rows": (0..10).map(|queue| json!({"labels": [format!("eth0:{queue}"), "in"],
                "values": [queue * 50_000 * seconds, 0, 0, 0, 0, 0]})).collect::<Vec<_>>()}],
    }, {
        "name": "rpc", "title": "RPC", "taken_us": 1 + seconds * 1_000_000, "is_detail": true,
        "figures": [
            {"name": "timed_out", "title": "Connections closed for being too slow",
                "kind": "counter", "unit": "count", "value": 3},
            {"name": "panicked", "title": "Panics in calls and in threads",
                "kind": "counter", "unit": "count", "value": 0},
        ],
        "tables": [],
    }])
}

/// A screen that has seen some seconds of the process.
fn screen() -> Screen {
    let mut screen = Screen::new(THEME, Duration::from_secs(1));
    (0..4).for_each(|seconds| screen.take(Ok(snapshot(seconds))));
    screen
}

fn drawn(screen: &mut Screen, width: u16, height: u16) -> String {
    let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
    terminal.draw(|frame| screen.draw(frame)).unwrap();
    let buffer = terminal.backend().buffer();
    let cells: Vec<&str> = buffer.content().iter().map(ratatui::buffer::Cell::symbol).collect();
    let lines = cells.chunks(width.into()).map(|line| line.concat().trim_end().to_owned() + "\n");
    lines.collect()
}

fn press(screen: &mut Screen, key: KeyCode) -> Action {
    screen.press(KeyEvent::from(key))
}

/// Compares what is drawn with a file; `PAGEMILL_BLESS=1` writes the file instead.
fn assert_drawn(name: &str, actual: &str) {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("src/top/screen").join(name);
    if std::env::var_os("PAGEMILL_BLESS").is_some() {
        fs::write(&path, actual).unwrap();
    }
    let expected = fs::read_to_string(&path).unwrap_or_default();
    assert!(actual == expected, "{name} differs; it is now\n{actual}");
}

#[test]
fn every_view_is_drawn_as_it_was_looked_at() {
    for (width, height) in [(80, 24), (200, 60), (40, 12)] {
        let mut screen = screen();
        for view in ["overview", "lists", "pools", "accounts", "nfs", "xdp", "rpc"] {
            let name = format!("{view}-{width}x{height}.txt");
            assert_drawn(&name, &drawn(&mut screen, width, height));
            press(&mut screen, KeyCode::Tab);
        }
        assert_eq!(screen.view, View::Overview);
    }
}

#[test]
fn every_size_can_be_drawn_and_a_small_one_says_so() {
    let mut screen = screen();
    for (width, height) in [(1, 1), (39, 12), (40, 11), (40, 12), (41, 30), (500, 3), (300, 200)] {
        for view in 0..7 {
            screen.turn_to(view);
            let text = drawn(&mut screen, width, height);
            let is_small = width < 40 || height < 12;
            assert_eq!(text.contains("q quit"), !is_small, "{text}");
        }
    }
    assert!(drawn(&mut screen, 39, 12).contains("This screen has 39 x 12 characters;"));
}

#[test]
fn keys_turn_scroll_sort_and_pause() {
    let mut screen = screen();
    press(&mut screen, KeyCode::Left);
    assert_eq!(screen.view, View::Section("rpc".into()));
    press(&mut screen, KeyCode::Char('1'));
    assert_eq!(screen.view, View::Overview);
    press(&mut screen, KeyCode::Char('9'));
    assert_eq!(screen.view, View::Overview, "there is no ninth");

    press(&mut screen, KeyCode::Char('5'));
    let first_export = |screen: &mut Screen| {
        let text = drawn(screen, 80, 24);
        let at = text.find("/srv").unwrap();
        text[at..].chars().take(9).collect::<String>()
    };
    assert_eq!(first_export(&mut screen), "/srv/home");
    press(&mut screen, KeyCode::Char('s'));
    assert_eq!(first_export(&mut screen), "/srv/very");
    assert!(drawn(&mut screen, 80, 24).contains("s sort: calls"));
    press(&mut screen, KeyCode::Char('s'));
    press(&mut screen, KeyCode::Char('s'));
    assert_eq!(first_export(&mut screen), "/srv/home");

    press(&mut screen, KeyCode::Char('2'));
    press(&mut screen, KeyCode::End);
    let end = drawn(&mut screen, 40, 12);
    assert!(screen.scroll < 100 && !end.contains("down more"), "{end}");
    press(&mut screen, KeyCode::Home);
    assert!(drawn(&mut screen, 40, 12).contains("down more"));

    press(&mut screen, KeyCode::Char('p'));
    screen.take(Ok(snapshot(100)));
    let paused = drawn(&mut screen, 80, 24);
    assert!(paused.contains("PAUSED") && paused.contains("2 h 3 min"), "{paused}");
    press(&mut screen, KeyCode::Char('p'));
    screen.take(Ok(snapshot(100)));
    assert!(drawn(&mut screen, 80, 24).contains("up 2 h 4 min"));
}

#[test]
fn rows_without_pages_are_shown_on_request() {
    let mut screen = screen();
    let nr_lists = |text: &str| text.lines().filter(|line| line.contains("1024")).count();
    press(&mut screen, KeyCode::Char('2'));
    let text = drawn(&mut screen, 200, 60);
    assert!(text.contains("  4 empty hidden; e shows them"), "{text}");
    assert_eq!(nr_lists(&text), 8, "{text}");
    press(&mut screen, KeyCode::Char('e'));
    let text = drawn(&mut screen, 200, 60);
    assert!(!text.contains("hidden"), "{text}");
    assert_eq!(nr_lists(&text), 12, "{text}");
    // In every view, until the key is pressed again.
    press(&mut screen, KeyCode::Char('4'));
    assert!(drawn(&mut screen, 80, 24).contains("\n  4  "));
    press(&mut screen, KeyCode::Char('e'));
    let text = drawn(&mut screen, 80, 24);
    assert!(!text.contains("\n  4  ") && text.contains("  1 empty hidden"), "{text}");
}

#[test]
fn wide_tables_scroll_sideways_as_far_as_their_last_column() {
    let mut screen = screen();
    press(&mut screen, KeyCode::Char('6'));
    let text = drawn(&mut screen, 40, 12);
    assert!(text.contains("direction") && !text.contains("malformed"), "{text}");
    assert!(text.contains(" >\n") && text.contains("> columns"), "{text}");
    (0..20).for_each(|_| drop(press(&mut screen, KeyCode::Char('>'))));
    let text = drawn(&mut screen, 40, 12);
    assert!(
        text.contains("queue <") || text.contains("queue  <") && text.contains("eth0:0"),
        "{text}"
    );
    assert!(text.contains("down") && !text.contains("direction"), "{text}");
    assert!(!text.contains(" >\n") && !text.contains("> columns"), "{text}");
    let skipped = screen.sideways.skipped;
    press(&mut screen, KeyCode::Char('<'));
    let text = drawn(&mut screen, 40, 12);
    assert_eq!(screen.sideways.skipped, skipped - 1);
    assert!(text.contains(" >\n"), "{text}");
    // A wider terminal has nothing to scroll, and another view begins at its first column.
    assert!(drawn(&mut screen, 200, 60).contains("direction"));
    assert_eq!(screen.sideways.skipped, 0);
}

#[test]
fn keys_that_end_or_leave_are_passed_on() {
    let mut screen = screen();
    let control = |key| KeyEvent::new(KeyCode::Char(key), KeyModifiers::CONTROL);
    assert_eq!(screen.press(control('c')), Action::Quit);
    assert_eq!(screen.press(control('p')), Action::None);
    assert!(!screen.is_paused);
    assert_eq!(press(&mut screen, KeyCode::Esc), Action::Choose);
    press(&mut screen, KeyCode::Char('?'));
    assert!(drawn(&mut screen, 80, 24).contains("next sort column"));
    assert_eq!(press(&mut screen, KeyCode::Esc), Action::None, "it closes the help");
    assert_eq!(press(&mut screen, KeyCode::Char('q')), Action::Quit);
}

#[test]
fn an_end_and_a_silence_are_shown_with_the_last_figures() {
    let path = PathBuf::from("/run/x.sock");
    let mut screen = Screen::new(THEME, Duration::from_secs(1));
    assert!(drawn(&mut screen, 80, 24).contains("Waiting for the process."));
    screen.take(Err(FetchError::Gone { path: path.clone() }));
    let text = drawn(&mut screen, 80, 24);
    assert!(text.contains("no process serves its status at /run/x.sock"), "{text}");

    screen.take(Ok(snapshot(0)));
    screen.take(Err(FetchError::NoReply { path: path.clone(), pid: 4711 }));
    let text = drawn(&mut screen, 80, 24);
    assert!(text.contains("NO REPLY") && text.contains("process 4711 does not reply"), "{text}");
    screen.take(Err(FetchError::Gone { path }));
    let text = drawn(&mut screen, 80, 24);
    assert!(text.contains("ENDED") && text.contains("The process has ended."), "{text}");
    assert!(text.contains("Normal"), "{text}");
    // Another process at the same path has rates of its own.
    let mut other = snapshot(0);
    other.process.pid = 1;
    screen.take(Ok(other));
    assert!(drawn(&mut screen, 80, 24).contains("they need two snapshots"));
}

#[test]
fn one_of_several_processes_is_chosen() {
    let mut screen = Screen::new(THEME, Duration::from_secs(1));
    let process = |pid: u32| -> Process {
        serde_json::from_value(json!({"program": "nfsd", "pid": pid, "user": 0,
            "path": format!("/run/pagemill/nfsd-{pid}.sock"), "age": {"secs": 60 * pid, "nanos": 0},
            "command": format!("pagemill nfsd --listen 10.0.0.1:{pid} --export /srv/{pid}")}))
        .unwrap()
    };
    screen.choose((1..=40).map(process).collect());
    let text = drawn(&mut screen, 40, 12);
    assert!(text.contains("Choose a process") && text.contains("nfsd"), "{text}");
    (0..20).for_each(|_| drop(press(&mut screen, KeyCode::Down)));
    let text = drawn(&mut screen, 40, 12);
    assert!(text.contains("  21 ") && text.contains("21 min 0 s"), "{text}");
    // The selected one's command is shown whole.
    let command = "pagemill nfsd --listen 10.0.0.1:21\n--export /srv/21\n";
    assert!(text.contains(command), "{text}");
    let text = drawn(&mut screen, 80, 24);
    for part in ["--listen 10.0.0.1:20", "--export /srv/20", "/run/pagemill/nfsd-21.sock"] {
        assert!(text.contains(part), "{part}: {text}");
    }
    // The list is shorter by now.
    screen.choose((1..=3).map(process).collect());
    assert_eq!(press(&mut screen, KeyCode::Enter), Action::Watch(process(3)));
    screen.watch();
    assert!(!screen.is_choosing());
    screen.choose(Vec::new());
    assert_eq!(press(&mut screen, KeyCode::Enter), Action::None);
    assert!(drawn(&mut screen, 80, 24).contains("No process serves its status any more."));
    assert_eq!(press(&mut screen, KeyCode::Esc), Action::Quit);
}

#[test]
fn long_words_are_broken_and_short_ones_are_not() {
    assert_eq!(
        wrapped("pagemill nfsd /srv/data/home", 10),
        ["pagemill", "nfsd", "/srv/data/", "home"]
    );
    assert_eq!(wrapped("", 10), [""]);
    assert_eq!(wrapped("a b", 3), ["a b"]);
}

#[test]
fn what_a_peer_makes_up_is_drawn_without_a_panic() {
    let mut hostile = serde_json::to_value(snapshot(0)).unwrap();
    hostile["allocators"][0]["accounts"][0]["parent"] = json!(2);
    hostile["allocators"][0]["zones"][0]["managed"] = json!(0);
    hostile["allocators"][0]["zones"][0]["free"] = json!(u64::MAX / 8192);
    hostile["allocators"][0]["zones"][0]["types"][0]["free_blocks"] = json!([]);
    hostile["sections"][0]["tables"][0]["rows"][0] = json!({"labels": [], "values": []});
    hostile["sections"][0]["tables"][0]["rows"][1]["labels"] =
        json!(["x".repeat(10_000), "y", "z"]);
    hostile["sections"][0]["tables"][1]["labels"] = json!([]);
    hostile["sections"][0]["title"] = json!("t".repeat(10_000));
    hostile["process"]["program"] = json!("");
    hostile["process"]["uptime_us"] = json!(u64::MAX);
    let hostile: Snapshot = serde_json::from_value(hostile).unwrap();
    let mut screen = Screen::new(THEME, Duration::from_secs(1));
    screen.take(Ok(snapshot(0)));
    screen.take(Ok(hostile.clone()));
    screen.take(Ok(hostile));
    for view in 0..8 {
        screen.turn_to(view);
        for sorting in 0..4 {
            press(&mut screen, KeyCode::Char('s'));
            let text = drawn(&mut screen, 80, 24) + &drawn(&mut screen, 200, 60);
            assert!(text.contains("q quit"), "{view} {sorting}: {text}");
        }
    }
}
