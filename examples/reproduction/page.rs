//! Page that is being written: headings, paragraphs, and tables of published figures beside ours.

use std::fmt::Write as _;

/// Values of one measure, one for each seed.
#[derive(Clone, Debug)]
pub(crate) struct Measured(pub(crate) Vec<f64>);

impl Measured {
    pub(crate) fn mean(&self) -> f64 {
        self.0.iter().sum::<f64>() / self.0.len() as f64
    }

    /// Returns the values as text: `mean (least to most)`, or the value itself if there is only one.
    pub(crate) fn text(&self, decimals: usize) -> String {
        let mean = self.mean();
        if self.0.len() == 1 {
            return format!("{mean:.decimals$}");
        }
        let least = self.0.iter().copied().fold(f64::INFINITY, f64::min);
        let most = self.0.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        format!("{mean:.decimals$} ({least:.decimals$} to {most:.decimals$})")
    }
}

/// Origin of one of our figures.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Kind {
    Fitted,
    Predicted,
    Derived,
}

impl Kind {
    const fn name(self) -> &'static str {
        match self {
            Self::Fitted => "fitted",
            Self::Predicted => "predicted",
            Self::Derived => "derived",
        }
    }
}

/// Published figure and ours.
pub(crate) struct Row {
    pub(crate) what: String,
    pub(crate) published: f64,
    pub(crate) ours: Measured,
    pub(crate) decimals: usize,
    pub(crate) kind: Kind,
    pub(crate) why: &'static str,
}

/// Markdown text of the page so far.
pub(crate) struct Page(String);

impl Page {
    pub(crate) fn new(introduction: &str) -> Self {
        Self(introduction.to_owned())
    }

    pub(crate) fn text(&self) -> &str {
        &self.0
    }

    pub(crate) fn heading(&mut self, heading: &str) {
        let _ = write!(self.0, "\n## {heading}\n");
    }

    pub(crate) fn paragraph(&mut self, text: &str) {
        let _ = write!(self.0, "\n{text}\n");
    }

    /// Writes that a part was not run, and the command that runs it.
    pub(crate) fn not_run(&mut self, part: &str) {
        self.paragraph(&format!("Not run here; `scripts/reproduce {part}` runs it."));
    }

    /// Writes a figure of the runs, which `scripts/reproduce` keeps under `results/reference`.
    pub(crate) fn figure(&mut self, stem: &str, what: &str) -> anyhow::Result<()> {
        let file = format!("results/reference/{stem}.png");
        anyhow::ensure!(std::path::Path::new(&file).is_file(), "{file}: scripts/reproduce keeps no such figure");
        write!(self.0, "\n![{what}](../{file})\n")?;
        Ok(())
    }

    /// Writes a table. The first column is aligned left, the others right.
    pub(crate) fn table(&mut self, head: &[&str], rows: &[Vec<String>]) {
        let rule = std::iter::once("---").chain(std::iter::repeat_n("---:", head.len() - 1));
        let rule: Vec<&str> = rule.collect();
        let _ = write!(self.0, "\n| {} |\n| {} |\n", head.join(" | "), rule.join(" | "));
        for row in rows {
            let _ = writeln!(self.0, "| {} |", row.join(" | "));
        }
    }

    /// Writes a table of published figures beside ours, then a sentence for each row that needs one.
    pub(crate) fn against(&mut self, rows: &[Row]) {
        let cells = rows.iter().map(|row| {
            let decimals = row.decimals;
            vec![
                row.what.clone(),
                format!("{:.decimals$}", row.published),
                row.ours.text(decimals),
                format!("{:+.0} %", (row.ours.mean() / row.published - 1.0) * 100.0),
                row.kind.name().to_owned(),
            ]
        });
        let cells: Vec<Vec<String>> = cells.collect();
        self.table(&["", "published", "ours", "difference", "kind"], &cells);
        let reasons: Vec<String> =
            rows.iter().filter(|row| !row.why.is_empty()).map(|row| format!("- {}: {}", row.what, row.why)).collect();
        if !reasons.is_empty() {
            self.paragraph(&reasons.join("\n"));
        }
    }
}
