//! Bodies of forms with files (`multipart/form-data`, RFC 7578). A body is in memory as a whole, and bounded, before it
//! is taken apart.

/// Largest number of fields of a form.
const MOST: usize = 64;
/// Largest number of bytes of the header of a field.
const LONGEST_HEADER: usize = 8 << 10;

/// Field of a form.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Field<'a> {
    pub(super) name: &'a str,
    pub(super) is_file: bool,
    pub(super) content: &'a [u8],
}

/// Returns the boundary that a `Content-Type` gives, if it is that of a form with files.
pub(super) fn boundary(content_type: &str) -> Option<&str> {
    let (kind, parameters) = content_type.split_once(';')?;
    let boundary =
        kind.trim().eq_ignore_ascii_case("multipart/form-data").then(|| parameter(parameters, "boundary"))??;
    (1..=70).contains(&boundary.len()).then_some(boundary)
}

/// Takes a body apart.
///
/// # Errors
/// The body is no form of this boundary. The error says what is wrong.
pub(super) fn fields<'a>(body: &'a [u8], boundary: &str) -> Result<Vec<Field<'a>>, &'static str> {
    let delimiter = format!("\r\n--{boundary}");
    let (delimiter, first) = (delimiter.as_bytes(), &delimiter.as_bytes()[2..]);
    let begin =
        if body.starts_with(first) { first.len() } else { find(body, delimiter).ok_or(NO_FORM)? + delimiter.len() };
    let mut rest = &body[begin..];
    let mut fields = Vec::new();
    while !rest.starts_with(b"--") {
        if fields.len() == MOST {
            return Err("the form has too many fields");
        }
        // Blanks may follow a delimiter.
        let blanks = rest.iter().take_while(|byte| matches!(byte, b' ' | b'\t')).count();
        // The line break before a header stays: a field without a header begins with an empty line.
        let header = rest[blanks..].starts_with(b"\r\n").then_some(&rest[blanks..]).ok_or(NO_FORM)?;
        let length = find(&header[..header.len().min(LONGEST_HEADER)], b"\r\n\r\n").ok_or("a field has no header")?;
        let content = &header[length + 4..];
        // The content may be empty: its delimiter then begins with the end of the header.
        let end = find(&header[length + 2..], delimiter).ok_or("the form has no end")?;
        let content = &content[..end.saturating_sub(2)];
        let (name, is_file) = described(&header[..length]).ok_or("a field has no name")?;
        fields.push(Field { name, is_file, content });
        rest = &header[length + 2 + end + delimiter.len()..];
    }
    Ok(fields)
}

const NO_FORM: &str = "the body is no form of its boundary";

/// Returns the name of a field, and whether the field is a file.
fn described(header: &[u8]) -> Option<(&str, bool)> {
    let lines = std::str::from_utf8(header).ok()?.split("\r\n");
    let disposition = lines.filter_map(|line| line.split_once(':'));
    let mut disposition = disposition.filter(|(name, _)| name.trim().eq_ignore_ascii_case("content-disposition"));
    let (kind, parameters) = disposition.next()?.1.split_once(';')?;
    let name = kind.trim().eq_ignore_ascii_case("form-data").then(|| parameter(parameters, "name"))??;
    let is_file = parameter(parameters, "filename").or_else(|| parameter(parameters, "filename*")).is_some();
    Some((name, is_file))
}

/// Returns the value of a parameter, with or without quotation marks. A semicolon within them ends nothing.
fn parameter<'a>(parameters: &'a str, name: &str) -> Option<&'a str> {
    let mut quoted = false;
    let pieces = parameters.split(move |letter: char| {
        quoted ^= letter == '"';
        letter == ';' && !quoted
    });
    let mut pairs = pieces.filter_map(|piece| piece.split_once('='));
    let value = pairs.find(|(own, _)| own.trim().eq_ignore_ascii_case(name))?.1.trim();
    Some(value.strip_prefix('"').and_then(|value| value.strip_suffix('"')).unwrap_or(value))
}

/// Returns the place of the first occurrence.
fn find(text: &[u8], part: &[u8]) -> Option<usize> {
    text.windows(part.len()).position(|window| window == part)
}

#[cfg(test)]
mod tests {
    use super::*;

    const FORM: &[u8] = b"--x\r\nContent-Disposition: form-data; name=\"prompt\"\r\n\r\na; b\r\n--x\r\n\
        content-disposition: form-data; filename=\"a;name=b.png\"; name=\"image[]\"\r\nContent-Type: image/png\r\n\r\n\
        \x89PNG\r\n\r\n--y\r\n--x \r\nContent-Disposition: form-data; name=n\r\n\r\n\r\n--x--\r\n";

    #[test]
    fn a_form_is_taken_apart() {
        let field = |name, is_file, content| Field { name, is_file, content };
        let expected = [
            field("prompt", false, b"a; b".as_slice()),
            field("image[]", true, b"\x89PNG\r\n\r\n--y".as_slice()),
            field("n", false, b"".as_slice()),
        ];
        assert_eq!(fields(FORM, "x").expect("a form"), expected);
        let after_a_preamble = [b"read me", b"\r\n".as_slice(), FORM].concat();
        assert_eq!(fields(&after_a_preamble, "x").expect("a form"), expected);
    }

    #[test]
    fn what_is_no_form_is_refused_wherever_it_ends() {
        for length in 0..FORM.len() - 4 {
            assert!(fields(&FORM[..length], "x").is_err(), "{length}");
        }
        for body in ["", "--x", "--x\r\n\r\n\r\n--x--", "--x\r\nContent-Disposition: form-data\r\n\r\n\r\n--x--"] {
            assert!(fields(body.as_bytes(), "x").is_err(), "{body}");
        }
        let many = "--x\r\nContent-Disposition: form-data; name=a\r\n\r\n\r\n".repeat(MOST + 1) + "--x--";
        assert_eq!(fields(many.as_bytes(), "x"), Err("the form has too many fields"));
    }

    #[test]
    fn the_boundary_is_that_of_a_form() {
        assert_eq!(boundary("multipart/form-data; boundary=----abc"), Some("----abc"));
        assert_eq!(boundary("Multipart/Form-Data; charset=utf-8; Boundary=\"a b\""), Some("a b"));
        for wrong in
            ["multipart/form-data", "multipart/mixed; boundary=a", "multipart/form-data; boundary=", "text/plain"]
        {
            assert_eq!(boundary(wrong), None, "{wrong}");
        }
    }
}
