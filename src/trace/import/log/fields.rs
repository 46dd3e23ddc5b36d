//! Fields of a request that a column of a log may have, the usual names of such columns, and the values that they take.

use super::cell::Cell;
use super::clock::{Clock, TimeUnit};
use super::status::{End, StatusKind};
use super::wishes;

/// Property of a request that a column of a log may have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum LogField {
    /// Time of arrival.
    Arrival,
    /// Prompt.
    Prompt,
    /// Negative prompt.
    NegativePrompt,
    /// End of the request, by which rows are left out.
    Status,
    /// Label.
    RequestId,
    /// Tenant.
    Tenant,
    /// Deadline.
    Deadline,
    /// Width and height in one text, `1024x768`.
    Size,
    /// Width in pixels.
    Width,
    /// Height in pixels.
    Height,
    /// Denoising steps.
    Steps,
    /// Number of images.
    Images,
    /// Guidance.
    Guidance,
    /// Checkpoint.
    Checkpoint,
    /// LoRAs, between semicolons.
    Loras,
    /// Seconds that the request was executed for.
    Executed,
    /// Size of the image in bytes.
    ImageBytes,
}

use LogField as F;

impl LogField {
    /// All fields, in the order in which columns are given to them.
    pub const ALL: [Self; 17] = [
        F::Arrival,
        F::Prompt,
        F::NegativePrompt,
        F::Status,
        F::RequestId,
        F::Tenant,
        F::Deadline,
        F::Size,
        F::Width,
        F::Height,
        F::Steps,
        F::Images,
        F::Guidance,
        F::Checkpoint,
        F::Loras,
        F::Executed,
        F::ImageBytes,
    ];

    /// Returns the name of the field on the command line, which is its column in a trace where it has one.
    pub const fn name(self) -> &'static str {
        match self {
            F::Arrival => "arrival_s",
            F::Prompt => "prompt",
            F::NegativePrompt => "negative_prompt",
            F::Status => "status",
            F::RequestId => "request_id",
            F::Tenant => "tenant",
            F::Deadline => "deadline_s",
            F::Size => "size",
            F::Width => "width",
            F::Height => "height",
            F::Steps => "steps",
            F::Images => "images",
            F::Guidance => "guidance",
            F::Checkpoint => "checkpoint",
            F::Loras => "loras",
            F::Executed => "exec_s",
            F::ImageBytes => "image_bytes",
        }
    }

    /// Returns usual names between spaces, the most telling first: words in lower case without what is between them and
    /// without a unit.
    const fn usual(self) -> &'static str {
        match self {
            F::Arrival => {
                "arrival arrivaltime arrivaltimestamp arrivedat requesttime requesttimestamp requestedat \
                 submittime submissiontime submittedat enqueuedat queuedat receivedat createdat createtime \
                 creationtime created starttime starttimestamp startedat timestamp ts time datetime eventtime \
                 unixtime epoch date start t"
            }
            F::Prompt => {
                "prompt prompttext positiveprompt textprompt userprompt inputtext textinput text texts \
                 caption input query description"
            }
            F::NegativePrompt => "negativeprompt negprompt promptnegative",
            F::Status => {
                "status requeststatus jobstatus taskstatus state outcome result statuscode httpstatus \
                 httpstatuscode httpcode responsecode responsestatus success succeeded issuccess ok error \
                 errormessage errorcode exception"
            }
            F::RequestId => "requestid reqid jobid taskid generationid traceid uuid id",
            F::Tenant => {
                "tenant tenantid userid user username uid accountid account customerid customer \
                 organizationid organization orgid org clientid client groupid sessionid session \
                 conversationid"
            }
            F::Deadline => "deadline deadlineat due dueat duetime",
            F::Size => "size imagesize resolution imageresolution dimensions",
            F::Width => "width imagewidth",
            F::Height => "height imageheight",
            F::Steps => "steps numinferencesteps inferencesteps numsteps samplingsteps denoisingsteps",
            F::Images => "images numimages numimagesperprompt imagesperprompt nimages n",
            F::Guidance => "guidance guidancescale cfg cfgscale",
            F::Checkpoint => "checkpoint checkpointid checkpointname",
            F::Loras => "loras lora",
            F::Executed => "exec exectime execution executiontime",
            F::ImageBytes => "imagebytes",
        }
    }

    /// Returns whether the unit of a number is read from its column's name.
    pub(super) const fn is_timed(self) -> bool {
        matches!(self, F::Arrival | F::Deadline | F::Executed)
    }

    /// Returns the kind of value that the field takes, with an article, for errors.
    pub(super) const fn accepted(self) -> &'static str {
        match self {
            F::Arrival => "a date with a time, or a number",
            F::Prompt => "text",
            F::Status => "a word or code that says whether the request succeeded",
            F::Size => "a text like 1024x768",
            F::Deadline | F::Width | F::Height | F::Steps | F::Images | F::Guidance | F::Executed | F::ImageBytes => {
                "a number"
            }
            F::NegativePrompt | F::RequestId | F::Tenant | F::Checkpoint | F::Loras => "text or a number",
        }
    }

    /// Returns whether a value other than none can be read as this field.
    pub(super) fn takes(self, cell: &Cell<'_>, status: StatusKind) -> bool {
        match self {
            F::Arrival => Clock::find([cell], None).is_some(),
            F::Prompt => {
                cell.prompt().is_some_and(|text| !text.trim().is_empty() && text.trim().parse::<f64>().is_err())
            }
            F::Status => status.end(cell) != End::Unknown,
            F::Size => wishes::size(cell).is_some(),
            F::Deadline => cell.number().is_some() || Clock::find([cell], None).is_some(),
            F::Width | F::Height | F::Steps | F::Images | F::Guidance | F::Executed | F::ImageBytes => {
                cell.number().is_some()
            }
            F::NegativePrompt | F::RequestId | F::Tenant | F::Checkpoint | F::Loras => cell.name().is_some(),
        }
    }
}

/// Returns the rank of a name among the usual ones of a field, smaller for better; `None` if it is none of them. A name
/// within an object counts by its last part, after names that stand by themselves.
pub(super) fn rank(field: LogField, name: &str) -> Option<(usize, usize)> {
    let usual = |key: &str| field.usual().split(' ').position(|usual| usual == key);
    let depth = name.matches('.').count();
    let whole = key_of(name).0;
    if let Some(at) = usual(&whole) {
        return Some((at, 0));
    }
    // `user.id` is a tenant's by all its words, and no request's by the last one.
    let is_known = F::ALL.into_iter().any(|other| other.usual().split(' ').any(|usual| usual == whole));
    let last =
        name.rsplit('.').next().map(|last| key_of(last).0).filter(|last| !is_known && last != "id" && last != "t")?;
    Some((usual(&last)?, depth))
}

/// Returns whether a name is a usual one of some field.
pub(super) fn is_usual(name: &str) -> bool {
    F::ALL.into_iter().any(|field| rank(field, name).is_some())
}

/// Returns whether a name is a usual one of a field.
pub(in super::super) fn is_usual_of(field: LogField, name: &str) -> bool {
    rank(field, name).is_some()
}

/// Returns a name's words in lower case without what is between them, and the unit that the last word is.
pub(super) fn key_of(name: &str) -> (String, Option<TimeUnit>) {
    let mut words: Vec<String> = vec![String::new()];
    let mut before_lower = false;
    for letter in name.chars() {
        let begins = !letter.is_alphanumeric() || (letter.is_uppercase() && before_lower);
        if begins && words.last().is_some_and(|word| !word.is_empty()) {
            words.push(String::new());
        }
        if letter.is_alphanumeric()
            && let Some(word) = words.last_mut()
        {
            word.extend(letter.to_lowercase());
        }
        before_lower = letter.is_lowercase() || letter.is_ascii_digit();
    }
    words.retain(|word| !word.is_empty());
    let unit = words.last().and_then(|word| TimeUnit::from_word(word)).filter(|_| words.len() > 1);
    if unit.is_some() {
        words.pop();
    }
    (words.concat(), unit)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_have_words_and_units() {
        for (name, key, unit) in [
            ("arrival_s", "arrival", Some(TimeUnit::Seconds)),
            ("createdAtMs", "createdat", Some(TimeUnit::Milliseconds)),
            ("@timestamp", "timestamp", None),
            ("Session ID", "sessionid", None),
            ("TIMESTAMP", "timestamp", None),
            ("ms", "ms", None),
            ("", "", None),
        ] {
            assert_eq!(key_of(name), (key.to_owned(), unit), "{name}");
        }
    }
}
