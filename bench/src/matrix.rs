// SPDX-License-Identifier: GPL-2.0

//! The matrix of kinds, states, ways and numbers: its worst ratios, heat maps and an HTML page.

use crate::{measure::Measured, report::Results};
use anyhow::Context;
use plotters::prelude::*;
use std::{fmt::Write, path::Path};

/// How many of the worst ratios are printed.
const WORST: usize = 10;

/// The ratio of a case to the interface that it is compared with.
fn ratio(case: &Measured) -> Option<f64> {
    case.ratios().next().map(|(_, ratio)| ratio)
}

/// The worst ratios first, then a summary, and what was left out. Empty without a matrix.
pub fn summary(results: &Results) -> String {
    let cells = results.cases.iter().filter(|case| case.cell.is_some());
    let mut ratios: Vec<(f64, &Measured)> = cells
        .filter_map(|case| Some((ratio(case)?, case)))
        .collect();
    let mut text = String::new();
    if ratios.is_empty() {
        return text;
    }
    ratios.sort_by(|a, b| b.0.total_cmp(&a.0));
    let _ = writeln!(text, "the worst ratios of the matrix, in {}:", results.unit);
    for (ratio, case) in ratios.iter().take(WORST) {
        let _ = writeln!(text, "{ratio:8.2}  {} {}", case.workload, case.title);
    }
    let above = ratios.iter().filter(|(ratio, _)| *ratio > 1.0).count();
    let _ = writeln!(
        text,
        "{} cells: worst {:.2}, median {:.2}, {above} above 1.0",
        ratios.len(),
        ratios[0].0,
        ratios[ratios.len() / 2].0,
    );
    text += &floors(results);
    for (reason, count) in &results.excluded {
        let _ = writeln!(text, "{count} left out, {reason}");
    }
    text
}

/// How many cells miss their target, and how many of them would also miss it if the module took no
/// instructions at all. Empty without a profile.
fn floors(results: &Results) -> String {
    let (mut missed, mut unreachable) = (0, 0);
    for case in &results.cases {
        let (Some(_), Some(target), Some(ratio)) = (&case.cell, case.target, ratio(case)) else {
            continue;
        };
        let ours = &case.sides[0];
        let Some(outside) = ours.outside else {
            continue;
        };
        missed += usize::from(ratio > target);
        unreachable += usize::from(ratio * outside / ours.median > target);
    }
    if missed == 0 {
        return String::new();
    }
    format!(
        "{missed} miss their target; {unreachable} of them by the instructions outside of the \
         module alone\n"
    )
}

/// A kind and a state.
type Row<'a> = (&'a str, &'a str);

/// A way and a number.
type Column<'a> = (&'a str, usize);

/// The rows and the columns of the matrix in their order.
struct Grid<'a> {
    rows: Vec<Row<'a>>,
    columns: Vec<Column<'a>>,
    cells: Vec<(Row<'a>, Column<'a>, f64)>,
}

impl<'a> Grid<'a> {
    /// The cells of one workload for which `wanted` is true.
    fn new(results: &'a Results, workload: char, wanted: impl Fn(usize) -> bool) -> Self {
        let mut grid = Grid {
            rows: Vec::new(),
            columns: Vec::new(),
            cells: Vec::new(),
        };
        for case in results
            .cases
            .iter()
            .filter(|case| case.workload == workload)
        {
            let (Some(cell), Some(ratio)) = (&case.cell, ratio(case)) else {
                continue;
            };
            if !wanted(cell.count) {
                continue;
            }
            let row = (cell.kind.as_str(), cell.state.as_str());
            let column = (cell.way.as_str(), cell.count);
            if !grid.rows.contains(&row) {
                grid.rows.push(row);
            }
            if !grid.columns.contains(&column) {
                grid.columns.push(column);
            }
            grid.cells.push((row, column, ratio));
        }
        let ways = grid.ways();
        let place = |way| ways.iter().position(|other| *other == way);
        grid.columns
            .sort_by_key(|(way, count)| (place(*way), *count));
        grid
    }

    /// Groups the columns by way, each with its numbers.
    fn ways(&self) -> Vec<&'a str> {
        let mut ways = Vec::new();
        for (way, _) in &self.columns {
            if !ways.contains(way) {
                ways.push(*way);
            }
        }
        ways
    }
}

/// The color of a ratio, on a logarithmic scale: green at a half and below, white at 1, red at 4 and
/// above.
fn color(ratio: f64) -> RGBColor {
    let mix = |full: (f64, f64, f64), part: f64| {
        let of = |full: f64| (255.0 + (full - 255.0) * part.clamp(0.0, 1.0)) as u8;
        RGBColor(of(full.0), of(full.1), of(full.2))
    };
    if ratio <= 1.0 {
        mix((35.0, 139.0, 69.0), -ratio.log2())
    } else {
        mix((203.0, 24.0, 29.0), ratio.log2() / 2.0)
    }
}

/// The sizes of a picture, in pixels.
struct Sizes {
    cell: (i32, i32),
    left: i32,
    top: i32,
    text: i32,
    has_figures: bool,
}

/// Draws the matrix: one panel for each way and the numbers in it, and one for the life of a
/// registration. `small` has 16 descriptors only and no figures.
pub fn heat_map(results: &Results, path: &Path, small: bool) -> anyhow::Result<()> {
    let sizes = if small {
        Sizes {
            cell: (44, 11),
            left: 190,
            top: 44,
            text: 10,
            has_figures: false,
        }
    } else {
        Sizes {
            cell: (40, 16),
            left: 230,
            top: 64,
            text: 11,
            has_figures: true,
        }
    };
    let mut grids = vec![Grid::new(results, 'n', |count| !small || count == 16)];
    if !small {
        grids.push(Grid::new(results, 'o', |_| true));
    }
    grids.retain(|grid| !grid.cells.is_empty());
    anyhow::ensure!(!grids.is_empty(), "no matrix to draw");
    let gap = sizes.cell.0 / 3;
    let width = |grid: &Grid<'_>| {
        sizes.left + grid.columns.len() as i32 * sizes.cell.0 + grid.ways().len() as i32 * gap
    };
    let height = |grid: &Grid<'_>| sizes.top + (grid.rows.len() as i32 + 1) * sizes.cell.1;
    let size = (
        grids.iter().map(width).max().unwrap_or(0) as u32,
        grids.iter().map(height).sum::<i32>() as u32 + 20,
    );
    let area = SVGBackend::new(path, size).into_drawing_area();
    area.fill(&WHITE)?;
    let font = ("sans-serif", sizes.text).into_font().color(&BLACK);
    let title = if small {
        "instructions of kqueue / epoll, 16 ready: green below 1, red above"
    } else {
        "instructions of kqueue / epoll (regular files and /dev/null: poll): green below 1, red above"
    };
    area.draw(&Text::new(title, (6, 4), font.clone()))?;
    let mut top = sizes.text + 6;
    for grid in &grids {
        draw(&area, grid, &sizes, top, gap)?;
        top += height(grid);
    }
    area.present().context("the heat map")?;
    Ok(())
}

fn draw(
    area: &DrawingArea<SVGBackend<'_>, plotters::coord::Shift>,
    grid: &Grid<'_>,
    sizes: &Sizes,
    top: i32,
    gap: i32,
) -> anyhow::Result<()> {
    let font = ("sans-serif", sizes.text).into_font().color(&BLACK);
    let (wide, high) = sizes.cell;
    let ways = grid.ways();
    let x = |column: usize| {
        let way = grid.columns[column].0;
        let panel = ways.iter().position(|other| *other == way).unwrap_or(0) as i32;
        sizes.left + column as i32 * wide + panel * gap
    };
    let has_numbers = grid.columns.len() > ways.len();
    for (index, way) in ways.iter().enumerate() {
        let column = grid.columns.iter().position(|(other, _)| other == way);
        let Some(column) = column else { continue };
        // The names of narrow panels are on two lines in turn.
        let line = if has_numbers { 0 } else { index as i32 % 2 };
        let at = (x(column), top + line * (sizes.text + 3));
        area.draw(&Text::new(*way, at, font.clone()))?;
    }
    let first = top + sizes.top - high - sizes.text;
    if has_numbers {
        for (column, (_, count)) in grid.columns.iter().enumerate() {
            let at = (x(column) + 2, first - sizes.text - 3);
            area.draw(&Text::new(count.to_string(), at, font.clone()))?;
        }
    }
    for (row, (kind, state)) in grid.rows.iter().enumerate() {
        let y = first + row as i32 * high;
        let name = if *state == "life" {
            (*kind).to_string()
        } else {
            format!("{kind}, {state}")
        };
        area.draw(&Text::new(name, (6, y + 1), font.clone()))?;
    }
    for (row, column, ratio) in &grid.cells {
        let find = |found: Option<usize>| found.unwrap_or(0);
        let row = find(grid.rows.iter().position(|other| other == row)) as i32;
        let column = find(grid.columns.iter().position(|other| other == column));
        let (left, y) = (x(column), first + row * high);
        area.draw(&Rectangle::new(
            [(left, y), (left + wide - 1, y + high - 1)],
            color(*ratio).filled(),
        ))?;
        if sizes.has_figures {
            let at = (left + 7, y + 2);
            area.draw(&Text::new(format!("{ratio:.2}"), at, font.clone()))?;
        }
    }
    Ok(())
}

/// A page with a table that is sorted by a click on the head of a column. It needs nothing else.
pub fn page(results: &Results) -> String {
    let mut rows = String::new();
    for case in &results.cases {
        let Some(cell) = &case.cell else { continue };
        for (peer, ratio) in case.ratios() {
            let RGBColor(red, green, blue) = color(ratio);
            let _ = writeln!(
                rows,
                "<tr><td>{}<td>{}<td>{}<td>{}<td>{:.0}<td>{}<td>{:.0}<td>{}\
                 <td style=\"background:rgb({red},{green},{blue})\">{ratio:.2}",
                cell.kind,
                cell.state,
                cell.way,
                cell.count,
                case.sides[0].median,
                case.sides[0]
                    .outside
                    .map_or(String::new(), |outside| format!("{outside:.0}")),
                peer.median,
                peer.name,
            );
        }
    }
    format!(
        r#"<!doctype html>
<meta charset="utf-8">
<title>What kqueue costs, compared with epoll</title>
<style>
body {{ font: 14px sans-serif; margin: 2em }}
table {{ border-collapse: collapse }}
td, th {{ padding: 2px 10px; border-bottom: 1px solid #ddd; text-align: left }}
th {{ cursor: pointer; position: sticky; top: 0; background: #eee }}
td:nth-child(n+4):not(:nth-child(8)) {{ text-align: right }}
</style>
<h1>What kqueue costs, compared with epoll</h1>
<p>The figures are {} for each event or operation. Click on the head of a column to sort by it.
<table>
<thead><tr><th>kind<th>state<th>way or operation<th>number<th>kqueue
<th>of it outside the module<th>other<th>compared with<th>ratio</thead>
<tbody>
{rows}</tbody>
</table>
<script>
const body = document.querySelector("tbody");
document.querySelectorAll("th").forEach((head, column) => {{
	let up = true;
	head.onclick = () => {{
		const key = row => row.cells[column].textContent;
		const order = (a, b) => key(a).localeCompare(key(b), undefined, {{ numeric: true }});
		const rows = [...body.rows].sort((a, b) => up ? order(a, b) : order(b, a));
		up = !up;
		body.append(...rows);
	}};
}});
document.querySelectorAll("th")[8].click();
document.querySelectorAll("th")[8].click();
</script>
"#,
        results.unit
    )
}
