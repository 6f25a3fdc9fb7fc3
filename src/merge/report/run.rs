//! What was run, what was scanned, and what was not.

use std::collections::BTreeSet;
use std::fmt::Write;
use std::fs;
use std::path::Path;

use super::super::outputs::SpeedupRow;
use super::super::{Merged, SceneSummary};
use super::{duration, escape, grouped, shortened};
use crate::config::Settings;
use crate::job::ranges;
use crate::records::ShardManifest;
use crate::scan::shard_folder;

/// Scenes and failures on the page, and names in a list of them.
const SCENES: usize = 200;
const FAILURES: usize = 100;
const NAMES: usize = 12;
/// Characters of a message.
const MESSAGE: usize = 400;

/// From when to when, by the shards' clocks.
pub fn when(merged: &Merged) -> String {
    match span(merged) {
        Some((began, ended)) => format!("{} to {}, UTC", utc(began), utc(ended)),
        None => "its shards do not say when they ran".to_owned(),
    }
}

fn span(merged: &Merged) -> Option<(f64, f64)> {
    let said = || merged.manifests.iter().filter(|shard| shard.started_unix_s > 0.0);
    let began = said().map(|shard| shard.started_unix_s).min_by(f64::total_cmp)?;
    Some((began, said().map(|shard| shard.ended_unix_s).max_by(f64::total_cmp)?))
}

/// `2026-11-24 23:05` of seconds since 1970; days to dates as in Hinnant's `civil_from_days`.
fn utc(unix_s: f64) -> String {
    let seconds = unix_s as i64;
    let (days, of_day) = (seconds.div_euclid(86_400), seconds.rem_euclid(86_400));
    let shifted = days + 719_468;
    let (era, of_era) = (shifted.div_euclid(146_097), shifted.rem_euclid(146_097));
    let year = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year + year / 4 - year / 100);
    let month = (5 * of_year + 2) / 153;
    let day = of_year - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    let year = year + era * 400 + i64::from(month <= 2);
    format!("{year}-{month:02}-{day:02} {:02}:{:02}", of_day / 3600, of_day / 60 % 60)
}

/// The figures that matter most.
pub fn cards(merged: &Merged, speedup: &SpeedupRow) -> String {
    let card = |value: String, name: String| format!("<div class=card><b>{value}</b>{name}</div>\n");
    let placed = || merged.scenes.iter().filter(|scene| scene.valid_m2.is_some());
    let mut text = card(grouped(merged.impacts), "impacts".into());
    text += &card(grouped(merged.scenes.len() as u64), "scenes".into());
    text += &card(
        format!("{:.1} Mpx", merged.valid_px() as f64 / 1e6),
        format!("of ground, {:.1} Mpx with no-data", merged.pixels() as f64 / 1e6),
    );
    if let Some(km2) = merged.searched_km2() {
        let impacts: u64 = placed().map(|scene| scene.impacts).sum();
        let all = merged.scenes.iter().all(|scene| scene.valid_m2.is_some() || scene.valid_px == 0);
        let name = if all { "searched" } else { "searched, in georeferenced scenes" };
        text += &card(format!("{km2:.1} km²"), name.into());
        text += &card(format!("{:.2}", 1000.0 * impacts as f64 / km2), "impacts per 1000 km²".into());
    }
    if let Some(looked) = merged.looked() {
        text += &card(format!("{:.2} %", 100.0 * looked), "of ground looked at after screening".into());
    }
    if let Some((began, ended)) = span(merged) {
        text += &card(duration(ended - began), "from first start to last end".into());
    }
    text += &card(duration(speedup.sum_s), "of all shards together".into());
    text + &card(
        format!("{:.2} Mpx/s", speedup.valid_mpx_s),
        format!("of ground, a shard on {}", shortened(&speedup.device, 60)),
    )
}

/// What is not in the catalogue, and why.
pub fn missing(merged: &Merged) -> String {
    let mut text = String::new();
    if !merged.missing.is_empty() {
        let count = merged.manifests.first().map_or(0, |shard| shard.shards);
        let share = merged.share().map_or(String::new(), |share| {
            format!(" {:.2} % of the pixels of the scene list are in.", 100.0 * share)
        });
        let _ = writeln!(
            text,
            "<p class=warn><b>{} of {count} shards are missing:</b> {}.{share}</p>",
            merged.missing.len(),
            shortened(&ranges(merged.missing.iter().copied()), MESSAGE)
        );
    }
    if !merged.failed.is_empty() {
        let _ = writeln!(
            text,
            "<p class=warn><b>Incomplete scenes: {}.</b> Where they failed, nothing was searched.</p>\n\
             <table><thead><tr><th>scene<th>why</thead>",
            merged.failed.len()
        );
        for (scene, why) in merged.failed.iter().take(FAILURES) {
            let _ = writeln!(text, "<tr><td class=name>{}<td>{}", escape(scene), shortened(why, MESSAGE));
        }
        text += "</table>\n";
        if merged.failed.len() > FAILURES {
            let _ = writeln!(text, "<p class=note>and {} more.</p>", merged.failed.len() - FAILURES);
        }
    }
    if text.is_empty() {
        text += "<p>Nothing is missing: every shard is in, and no scene failed.</p>\n";
    }
    if let Some(looked) = merged.looked() {
        let _ = writeln!(
            text,
            "<p>A first look at reduced resolution left out {:.2} % of the ground, as holding nothing.</p>",
            100.0 * (1.0 - looked)
        );
    }
    text
}

/// Different names, at most [`NAMES`] of them.
fn names<'a>(all: impl Iterator<Item = &'a str>) -> String {
    let all: BTreeSet<&str> = all.collect();
    let some: Vec<_> = all.iter().take(NAMES).map(|name| shortened(name, 80)).collect();
    let more = if all.len() > NAMES { format!(" and {} more", all.len() - NAMES) } else { String::new() };
    format!("{}{more}", some.join(", "))
}

/// What was run, where, and by which command.
pub fn facts(out: &Path, merged: &Merged) -> String {
    let Some(one) = merged.manifests.first() else { return String::new() };
    let shards = || merged.manifests.iter();
    let name = read_settings(out, one).map_or("unknown".to_owned(), |settings| settings.name);
    let threads: BTreeSet<usize> = shards().map(|shard| shard.threads).collect();
    let threads: Vec<String> = threads.iter().take(NAMES).map(ToString::to_string).collect();
    let weights = if one.ids.weights.is_empty() { "none" } else { &one.ids.weights };
    let jobs = || shards().flat_map(|shard| &shard.scheduler).filter(|pair| pair.0.contains("JOB"));
    let peak = shards().map(|shard| shard.peak_rss_anon_bytes).max().unwrap_or(0);
    let mut rows = vec![
        ("command", format!("<code>{}</code>", shortened(&one.command.join(" "), MESSAGE))),
        ("program", format!("marscan {}", escape(&one.ids.version))),
        ("settings", format!("{}, id <code>{}</code>", escape(&name), shortened(&one.ids.settings, 16))),
        ("weights", format!("id <code>{}</code>", shortened(weights, 16))),
        ("scene list", format!("id <code>{}</code>", shortened(&one.ids.scene_list, 16))),
        ("shards", format!("{} of {}", merged.manifests.len(), one.shards)),
        ("hosts", names(shards().map(|shard| shard.host.as_str()))),
        ("devices", names(shards().map(|shard| shard.device.as_str()))),
        ("threads a shard", threads.join(", ")),
        ("largest process", format!("{:.0} MiB of private memory", peak as f64 / f64::from(1 << 20))),
    ];
    if jobs().next().is_some() {
        let ids: BTreeSet<String> = jobs().map(|(name, value)| format!("{name}={value}")).collect();
        rows.push(("scheduler", names(ids.iter().map(String::as_str))));
    }
    let line = |(name, value): &(&str, String)| format!("<tr><th>{name}<td>{value}\n");
    rows.iter().map(line).collect()
}

/// The settings a shard saved; none where they cannot be read.
pub fn read_settings(out: &Path, shard: &ShardManifest) -> Option<Settings> {
    let path = shard_folder(out, shard.shard, shard.shards).join("settings.toml");
    toml::from_str(&fs::read_to_string(path).ok()?).ok()
}

/// What in the settings a scan depends on, as TOML.
pub fn settings(out: &Path, merged: &Merged) -> String {
    let settings = merged.manifests.first().and_then(|shard| read_settings(out, shard));
    let Some(settings) = settings else { return "not readable".to_owned() };
    let part = |name: &str, text: Result<String, toml::ser::Error>| {
        format!("[{name}]\n{}", text.unwrap_or_else(|why| why.to_string()))
    };
    let parts = [
        part("network", toml::to_string(&settings.network)),
        part("input", toml::to_string(&settings.input)),
        part("scan", toml::to_string(&settings.scan)),
    ];
    escape(&parts.join("\n"))
}

/// The scenes with the most impacts.
pub fn scenes(merged: &Merged) -> String {
    let mut all: Vec<&SceneSummary> = merged.scenes.iter().collect();
    all.sort_by_key(|scene| std::cmp::Reverse(scene.impacts));
    let mut text = String::new();
    if all.len() > SCENES {
        let _ = writeln!(text, "<p class=note>The {SCENES} of {} scenes with most impacts.</p>", all.len());
    }
    text += "<table><thead><tr><th>scene<th class=n>impacts<th class=n>Mpx<th class=n>of ground<th class=n>km²\
             <th class=n>impacts per 1000 km²<th class=n>computed / ground</thead>\n";
    for scene in all.into_iter().take(SCENES) {
        let km2 = scene.valid_m2.map(|area| area / 1e6).filter(|area| *area > 0.0);
        let _ = writeln!(
            text,
            "<tr><td class=name>{}<td class=n>{}<td class=n>{:.2}<td class=n>{:.2}<td class=n>{}<td class=n>{}<td class=n>{:.2}",
            escape(&scene.scene),
            grouped(scene.impacts),
            scene.pixels as f64 / 1e6,
            scene.valid_px as f64 / 1e6,
            km2.map_or(String::new(), |area| format!("{area:.1}")),
            km2.map_or(String::new(), |area| format!("{:.2}", 1000.0 * scene.impacts as f64 / area)),
            scene.computed_px as f64 / scene.valid_px.max(1) as f64
        );
    }
    text + "</table>\n"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_those_of_the_calendar() {
        for (unix_s, date) in [
            (0.0, "1970-01-01 00:00"),
            (951_782_400.0, "2000-02-29 00:00"),
            (1_795_561_501.7, "2026-11-24 23:05"),
        ] {
            assert_eq!(utc(unix_s), date);
        }
    }
}
