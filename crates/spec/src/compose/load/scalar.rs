//! What text without quotes means: the rules of YAML as Compose applies them.
//!
//! Owns the decision which type a plain scalar has, and the text that it becomes where text is wanted: `002` is the number
//! 2, `16.80` is 16.8, `yes` stays text. Must not know where the scalar stands.

use super::tree::Class;

/// Longest text that can be a number: what is longer is text, which keeps arithmetic on it cheap.
const NUMBER_BYTES_MAX: usize = 512;

/// The type of a plain scalar, and its text when that is not what is written.
pub(super) fn decode(text: &str) -> (Class, Option<String>) {
    match text {
        "true" | "True" | "TRUE" => return (Class::Truth, Some(String::from("true"))),
        "false" | "False" | "FALSE" => return (Class::Truth, Some(String::from("false"))),
        ".inf" | ".Inf" | ".INF" | "+.inf" | "+.Inf" | "+.INF" => {
            return (Class::Fraction, Some(String::from("+Inf")));
        }
        "-.inf" | "-.Inf" | "-.INF" => return (Class::Fraction, Some(String::from("-Inf"))),
        ".nan" | ".NaN" | ".NAN" => return (Class::Fraction, Some(String::from("NaN"))),
        _ => {}
    }
    let starts_number = text.starts_with(|c: char| c.is_ascii_digit() || matches!(c, '+' | '-' | '.'));
    if !starts_number || text.len() > NUMBER_BYTES_MAX {
        return (Class::Text, None);
    }
    if is_date(text) {
        return (Class::Date, None);
    }
    let digits = text.replace('_', "");
    if let Some(whole) = whole(&digits) {
        return (Class::Whole, Some(whole));
    }
    match fraction(&digits) {
        Some(fraction) => (Class::Fraction, Some(fraction)),
        None => (Class::Text, None),
    }
}

/// A whole number of any base, in decimal digits; `None` for what does not fit 64 bits.
fn whole(text: &str) -> Option<String> {
    let (is_negative, digits) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    let has_prefix = |prefix: &str| digits.get(..2).is_some_and(|start| start.eq_ignore_ascii_case(prefix));
    let (base, digits) = if has_prefix("0x") {
        (16, &digits[2..])
    } else if has_prefix("0o") {
        (8, &digits[2..])
    } else if has_prefix("0b") {
        (2, &digits[2..])
    } else if digits.len() > 1 && digits.starts_with('0') {
        (8, &digits[1..])
    } else {
        (10, digits)
    };
    if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_alphanumeric()) {
        return None;
    }
    let number = u64::from_str_radix(digits, base).ok()?;
    if !is_negative {
        return Some(number.to_string());
    }
    let text = if number == 0 { String::from("0") } else { format!("-{number}") };
    (number <= i64::MIN.unsigned_abs()).then_some(text)
}

/// A decimal number with a point or an exponent, in its shortest form.
fn fraction(text: &str) -> Option<String> {
    let unsigned = text.strip_prefix(['-', '+']).unwrap_or(text);
    let (mantissa, exponent) = match unsigned.find(['e', 'E']) {
        Some(at) => (&unsigned[..at], Some(&unsigned[at + 1..])),
        None => (unsigned, None),
    };
    let (before, after) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let all_digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    let is_mantissa = all_digits(before) && all_digits(after) && !(before.is_empty() && after.is_empty());
    let is_exponent = exponent.is_none_or(|exponent| {
        let digits = exponent.strip_prefix(['-', '+']).unwrap_or(exponent);
        !digits.is_empty() && all_digits(digits)
    });
    if !is_mantissa || !is_exponent {
        return None;
    }
    let number: f64 = text.parse().ok()?;
    number.is_finite().then(|| shortest(number))
}

/// The fewest digits that mean this number; with an exponent where Compose's language writes one.
fn shortest(number: f64) -> String {
    let scientific = format!("{number:e}");
    let (mantissa, exponent) = scientific.split_once('e').unwrap_or((&scientific, "0"));
    let power: i32 = exponent.parse().unwrap_or(0);
    if (-4..6).contains(&power) {
        return number.to_string();
    }
    let sign = if power < 0 { '-' } else { '+' };
    format!("{mantissa}e{sign}{:02}", power.unsigned_abs())
}

/// `2024-01-31`, also with a time of day: YAML has a type for these.
fn is_date(text: &str) -> bool {
    let (date, time) = match text.find(['T', 't', ' ']) {
        Some(at) => (&text[..at], Some(&text[at + 1..])),
        None => (text, None),
    };
    let parts: Vec<&str> = date.split('-').collect();
    let number = |text: &str, digits: std::ops::RangeInclusive<usize>| {
        (digits.contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_digit()))
            .then(|| text.parse::<u32>().unwrap_or(0))
    };
    let [year, month, day] = parts[..] else { return false };
    let is_day = number(year, 4..=4).is_some()
        && number(month, 1..=2).is_some_and(|month| (1..=12).contains(&month))
        && number(day, 1..=2).is_some_and(|day| (1..=31).contains(&day));
    let is_time = |time: &str| {
        let clock = time.trim_start().split(['.', 'Z', 'z', '+', '-']).next().unwrap_or(time);
        let fields: Vec<&str> = clock.trim_end().split(':').collect();
        fields.len() == 3 && fields.iter().all(|field| number(field, 1..=2).is_some())
    };
    is_day && time.is_none_or(is_time)
}
