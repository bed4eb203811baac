// SPDX-License-Identifier: GPL-2.0

//! Results as a table, as JSON and as a chart.

use crate::measure::Measured;
use anyhow::Context;
use plotters::prelude::*;
use serde::{Deserialize, Serialize};
use std::{fmt::Write, path::Path};

/// The results of one run.
#[derive(Serialize, Deserialize)]
pub struct Results {
    /// The unit: `ns` or `instructions`.
    pub unit: String,
    pub cases: Vec<Measured>,
    /// The reasons for which cells of the matrix are left out, with the number of cells.
    #[serde(default)]
    pub excluded: Vec<(String, usize)>,
}

impl Results {
    /// Adds the counts that the plugin has written: a line with two numbers for each run.
    pub fn add_profile(&mut self, text: &str) -> anyhow::Result<()> {
        let runs: Option<Vec<(f64, f64)>> = text
            .lines()
            .map(|line| {
                let (inside, outside) = line.split_once(' ')?;
                Some((inside.parse().ok()?, outside.parse().ok()?))
            })
            .collect();
        let runs = runs.context("the profile is not complete")?;
        for case in &mut self.cases {
            if let Some(ours) = case.sides.first_mut() {
                ours.set_outside(&runs);
            }
        }
        Ok(())
    }
}

/// Prints one line for each case and side: the costs with quartiles, the ratio, and its target.
pub fn table(results: &Results) -> String {
    let mut text = String::new();
    let _ = writeln!(
        text,
        "{:<2} {:<58} {:>11} {:>23} {:>7} {:>7}",
        "",
        format!("in {}", results.unit),
        "kqueue",
        "other",
        "ratio",
        "target"
    );
    for case in &results.cases {
        let ours = &case.sides[0];
        for (peer, ratio) in case.ratios() {
            let target = if peer.name == "emulation" {
                Some(0.25)
            } else {
                case.target
            };
            let verdict = match target {
                Some(target) if ratio <= target => format!("{target:>6.2} "),
                Some(target) => format!("{target:>6.2}!"),
                None => "     - ".into(),
            };
            let _ = writeln!(
                text,
                "{:<2} {:<58} {:>11.0} {:>11.0} {:<11} {:>7.2} {}",
                case.workload, case.title, ours.median, peer.median, peer.name, ratio, verdict
            );
        }
        if case.sides.len() == 1 {
            let _ = writeln!(
                text,
                "{:<2} {:<58} {:>11.0}",
                case.workload, case.title, ours.median
            );
        }
    }
    text
}

/// Draws bars of all ratios, and a line at 1.
pub fn chart(all: &[Results], path: &Path) -> anyhow::Result<()> {
    let mut bars = Vec::new();
    for results in all {
        for case in &results.cases {
            for (peer, ratio) in case.ratios() {
                let label = format!(
                    "{} {} / {} ({})",
                    case.workload, case.title, peer.name, results.unit
                );
                bars.push((label, ratio));
            }
        }
    }
    anyhow::ensure!(!bars.is_empty(), "no results to draw");
    const WIDTH: i32 = 1100;
    const LINE: i32 = 16;
    const LEFT: i32 = 620;
    let height = (bars.len() as i32 + 3) * LINE;
    let area = SVGBackend::new(path, (WIDTH as u32, height as u32)).into_drawing_area();
    area.fill(&WHITE)?;
    let most = bars.iter().map(|bar| bar.1).fold(1.5, f64::max).min(3.0);
    let scale = f64::from(WIDTH - LEFT - 60) / most;
    let text = ("sans-serif", 11).into_font().color(&BLACK);
    let title = "cost of kqueue divided by the other's; left of the line kqueue wins";
    area.draw(&Text::new(title, (8, 4), text.clone()))?;
    for (index, (label, ratio)) in bars.iter().enumerate() {
        let top = (index as i32 + 2) * LINE;
        let end = LEFT + (ratio.min(most) * scale) as i32;
        let color = if *ratio <= 1.0 { &GREEN } else { &RED };
        area.draw(&Rectangle::new(
            [(LEFT, top + 2), (end, top + LINE - 2)],
            color.mix(0.6).filled(),
        ))?;
        area.draw(&Text::new(label.as_str(), (8, top + 2), text.clone()))?;
        area.draw(&Text::new(
            format!("{ratio:.2}"),
            (end + 4, top + 2),
            text.clone(),
        ))?;
    }
    let one = LEFT + scale as i32;
    area.draw(&PathElement::new(
        vec![(one, LINE * 2), (one, height - LINE)],
        BLACK,
    ))?;
    area.present().context("the chart")?;
    Ok(())
}
