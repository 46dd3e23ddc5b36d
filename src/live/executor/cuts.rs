//! Count of prompts that were longer than a text encoder takes, and the warnings about them.

use std::collections::BTreeMap;

use crate::live::pipeline::Cut;
use crate::request::RequestId;

/// Prompts that were cut so far, by the folder of the encoder and the number of tokens that it takes.
#[derive(Debug, Default)]
pub(super) struct CutPrompts(BTreeMap<(String, usize), Count>);

/// Number of prompts, and of the tokens that were left out of all of them.
#[derive(Clone, Copy, Debug, Default)]
struct Count {
    prompts: u64,
    tokens: u64,
    /// Number of prompts at the last warning.
    said: u64,
}

impl CutPrompts {
    /// Counts a prompt that was cut. Returns a warning for the first prompt, the tenth, the hundredth and so on: a
    /// server would otherwise repeat it for ever.
    pub(super) fn count(&mut self, request: RequestId, cut: Cut) -> Option<String> {
        let Cut { encoder, limit, left_out } = cut;
        let count = self.0.entry((encoder.clone(), limit)).or_default();
        count.prompts += 1;
        count.tokens += left_out as u64;
        if count.prompts < 10 * count.said {
            return None;
        }
        count.said = count.prompts;
        Some(match count.prompts {
            1 => format!(
                "the prompt of request {request} is longer than its `{encoder}` takes ({limit} tokens): {left_out} \
                 tokens were left out"
            ),
            _ => count.describe(&encoder, limit),
        })
    }

    /// Returns the warnings with the final numbers, for encoders that cut prompts after their last warning.
    pub(super) fn totals(&self) -> Vec<String> {
        let changed = self.0.iter().filter(|(_, count)| count.prompts > count.said);
        changed.map(|((encoder, limit), count)| count.describe(encoder, *limit)).collect()
    }
}

impl Count {
    fn describe(self, encoder: &str, limit: usize) -> String {
        format!(
            "{} prompts were longer than their `{encoder}` takes ({limit} tokens): {} tokens were left out of them in all",
            self.prompts, self.tokens
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn warnings_are_few_and_have_the_right_numbers() {
        let mut cuts = CutPrompts::default();
        let mut said = Vec::new();
        for request in 0..25 {
            let cut = Cut { encoder: "text_encoder".into(), limit: 77, left_out: 2 };
            said.extend(cuts.count(RequestId(request), cut));
        }
        said.extend(cuts.totals());
        assert_eq!(
            said,
            [
                "the prompt of request 0 is longer than its `text_encoder` takes (77 tokens): 2 tokens were left out",
                "10 prompts were longer than their `text_encoder` takes (77 tokens): 20 tokens were left out of them in \
                 all",
                "25 prompts were longer than their `text_encoder` takes (77 tokens): 50 tokens were left out of them in \
                 all",
            ]
        );
    }
}
