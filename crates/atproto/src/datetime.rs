//! Times as text, and as microseconds since the epoch.
//!
//! The accept set is the one of the lexicon string format `datetime`, which is RFC 3339 with a few turns: a day that
//! the month does not have rolls over into the next month (30 February is 1 March or 2), second 60 is refused, and the
//! year must lie between 0 and 9999 after conversion to UTC.

/// Longest datetime, in characters.
pub const DATETIME_CHARS_MAX: usize = 64;

const MICROS_PER_SECOND: i64 = 1_000_000;
const SECONDS_PER_DAY: i64 = 86_400;
/// The first moment of year 0 and the first of year 10000, in microseconds since the epoch.
const YEAR_0: i64 = -719_528 * SECONDS_PER_DAY * MICROS_PER_SECOND;
const YEAR_10000: i64 = 2_932_897 * SECONDS_PER_DAY * MICROS_PER_SECOND;

/// Microseconds since the epoch of a datetime in the strict format; `None` for everything else.
///
/// Digits beyond the sixth place of a second are cut off.
pub fn parse_micros(text: &str) -> Option<i64> {
    if text.len() > DATETIME_CHARS_MAX || text.ends_with("-00:00") {
        return None;
    }
    let mut scan = Scan(text.as_bytes());
    let days = scan.date()?;
    scan.one_of(b"T")?;
    let of_day = scan.time(false)?;
    let offset_minutes = scan.offset(false)?;
    if !scan.0.is_empty() {
        return None;
    }
    in_range(days * SECONDS_PER_DAY * MICROS_PER_SECOND + of_day - offset_minutes * 60 * MICROS_PER_SECOND)
}

/// Whether `text` is in the accept set of the lexicon string format `datetime`.
pub fn is_valid(text: &str) -> bool {
    parse_micros(text).is_some()
}

/// Microseconds since the epoch of a looser datetime: what old or careless clients wrote.
///
/// Beyond the strict format this takes surrounding spaces, a date alone, a space or a small `t` between date and time,
/// a time without seconds, a small `z`, an offset without colon or without minutes, `-00:00`, and no offset at all
/// (then UTC). What it cannot read is `None`, as is a year outside 0 to 9999.
pub fn parse_micros_lenient(text: &str) -> Option<i64> {
    if let Some(micros) = parse_micros(text) {
        return Some(micros);
    }
    let text = text.trim_ascii();
    if text.len() > DATETIME_CHARS_MAX {
        return None;
    }
    let mut scan = Scan(text.as_bytes());
    let days = scan.date()?;
    let (mut of_day, mut offset_minutes) = (0, 0);
    if !scan.0.is_empty() {
        scan.one_of(b"Tt ")?;
        of_day = scan.time(true)?;
        if !scan.0.is_empty() {
            offset_minutes = scan.offset(true)?;
        }
    }
    if !scan.0.is_empty() {
        return None;
    }
    in_range(days * SECONDS_PER_DAY * MICROS_PER_SECOND + of_day - offset_minutes * 60 * MICROS_PER_SECOND)
}

fn in_range(micros: i64) -> Option<i64> {
    (YEAR_0..YEAR_10000).contains(&micros).then_some(micros)
}

struct Scan<'a>(&'a [u8]);

impl Scan<'_> {
    fn digits<const N: usize>(&mut self) -> Option<i64> {
        let (digits, rest) = self.0.split_first_chunk::<N>()?;
        let mut number = 0;
        for digit in digits {
            if !digit.is_ascii_digit() {
                return None;
            }
            number = number * 10 + i64::from(digit - b'0');
        }
        self.0 = rest;
        Some(number)
    }

    fn up_to<const N: usize>(&mut self, most: i64) -> Option<i64> {
        self.digits::<N>().filter(|number| *number <= most)
    }

    fn one_of(&mut self, wanted: &[u8]) -> Option<u8> {
        let (first, rest) = self.0.split_first()?;
        if !wanted.contains(first) {
            return None;
        }
        self.0 = rest;
        Some(*first)
    }

    /// `YYYY-MM-DD` as days since the epoch. A day beyond the month's end counts on into the next month.
    fn date(&mut self) -> Option<i64> {
        let year = self.digits::<4>()?;
        self.one_of(b"-")?;
        let month = self.up_to::<2>(12)?;
        self.one_of(b"-")?;
        let day = self.up_to::<2>(31)?;
        if month == 0 || day == 0 {
            return None;
        }
        Some(days_before_month(year, month) + day - 1)
    }

    /// `HH:mm:ss[.digits]` as microseconds of the day.
    fn time(&mut self, lenient: bool) -> Option<i64> {
        let hour = self.up_to::<2>(23)?;
        self.one_of(b":")?;
        let minute = self.up_to::<2>(59)?;
        let seconds = (hour * 60 + minute) * 60;
        if lenient && self.0.first() != Some(&b':') {
            return Some(seconds * MICROS_PER_SECOND);
        }
        self.one_of(b":")?;
        let second = self.up_to::<2>(59)?;
        let mut fraction = 0;
        if self.one_of(b".").is_some() {
            let places = self.0.iter().take_while(|byte| byte.is_ascii_digit()).count();
            let (digits, rest) = self.0.split_at(places);
            if digits.is_empty() {
                return None;
            }
            let mut unit = MICROS_PER_SECOND;
            for digit in digits.iter().take(6) {
                unit /= 10;
                fraction += i64::from(digit - b'0') * unit;
            }
            self.0 = rest;
        }
        Some((seconds + second) * MICROS_PER_SECOND + fraction)
    }

    /// `Z` or `±hh:mm` as minutes.
    fn offset(&mut self, lenient: bool) -> Option<i64> {
        let sign = match self.one_of(if lenient { b"Zz+-" } else { b"Z+-" })? {
            b'+' => 1,
            b'-' => -1,
            _ => return Some(0),
        };
        let hours = self.up_to::<2>(23)?;
        if lenient && self.0.is_empty() {
            return Some(sign * hours * 60);
        }
        if !lenient || self.0.first() == Some(&b':') {
            self.one_of(b":")?;
        }
        Some(sign * (hours * 60 + self.up_to::<2>(59)?))
    }
}

/// Days from the epoch to the first of a month of the proleptic Gregorian calendar (month 1 to 12).
fn days_before_month(year: i64, month: i64) -> i64 {
    // Years are counted from March, so that the leap day is the last of a year.
    let (year, month) = if month <= 2 { (year - 1, month + 9) } else { (year, month - 3) };
    let (era, of_era) = (year.div_euclid(400), year.rem_euclid(400));
    era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + (153 * month + 2) / 5 - 719_468
}

/// Year, month and day of a number of days since the epoch.
fn civil(days: i64) -> (i64, i64, i64) {
    let days = days + 719_468;
    let (era, of_era) = (days.div_euclid(146_097), days.rem_euclid(146_097));
    let year = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year + year / 4 - year / 100);
    let month = (5 * of_year + 2) / 153;
    let day = of_year - (153 * month + 2) / 5 + 1;
    let (month, carry) = if month < 10 { (month + 3, 0) } else { (month - 9, 1) };
    (era * 400 + year + carry, month, day)
}

/// The text `YYYY-MM-DDTHH:mm:ss.sssZ`; microseconds below the millisecond are cut off.
///
/// A year outside 0 to 9999 is written with a sign and six digits.
pub fn format_ms(micros: i64) -> String {
    let mut out = Vec::with_capacity(24);
    write_ms(micros, &mut out);
    String::from_utf8(out).expect("digits and punctuation are ASCII")
}

/// Appends what [`format_ms`] returns.
pub fn write_ms(micros: i64, out: &mut Vec<u8>) {
    let millis = micros.div_euclid(1000);
    let (days, of_day) = (millis.div_euclid(86_400_000), millis.rem_euclid(86_400_000));
    let (year, month, day) = civil(days);
    if !(0..=9999).contains(&year) {
        out.push(if year < 0 { b'-' } else { b'+' });
        put::<6>(year.abs(), out);
    } else {
        put::<4>(year, out);
    }
    out.push(b'-');
    put::<2>(month, out);
    out.push(b'-');
    put::<2>(day, out);
    out.push(b'T');
    put::<2>(of_day / 3_600_000, out);
    out.push(b':');
    put::<2>(of_day / 60_000 % 60, out);
    out.push(b':');
    put::<2>(of_day / 1000 % 60, out);
    out.push(b'.');
    put::<3>(of_day % 1000, out);
    out.push(b'Z');
}

fn put<const N: usize>(mut number: i64, out: &mut Vec<u8>) {
    let mut digits = [b'0'; N];
    for digit in digits.iter_mut().rev() {
        *digit += (number % 10) as u8;
        number /= 10;
    }
    out.extend_from_slice(&digits);
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn accept_set() {
        for text in [
            "1985-04-12T23:20:50.123Z",
            "1985-04-12T23:20:50.000Z",
            "2000-01-01T00:00:00.000Z",
            "1985-04-12T23:20:50Z",
            "1985-04-12T23:20:50.1Z",
            "1985-04-12T23:20:50.12345678912345678901234567890123456789012Z",
            "1985-04-12T23:20:50.123+01:45",
            "1985-04-12T23:20:50-23:59",
            "1985-04-12T23:20:50+00:00",
            "0000-01-01T00:00:00Z",
            "0000-01-01T00:00:00-01:00",
            "0985-04-12T23:20:50.123-07:00",
            "9999-12-31T23:59:59.999999Z",
            "2023-02-30T00:00:00Z",
            "2023-04-31T00:00:00Z",
        ] {
            assert!(is_valid(text), "{text}");
        }
        for text in [
            "",
            "1985-04-12",
            "1985-04-12T23:20Z",
            "1985-04-12T23:20:5Z",
            "1985-04-12T23:20:50",
            "1985-04-12T23:20:50.Z",
            "1985-04-12T23:20:50,1Z",
            "1985-04-12t23:20:50Z",
            "1985-04-12T23:20:50z",
            "1985-04-12 23:20:50Z",
            "1985-04-12T23:20:50-00:00",
            "1985-04-12T23:20:50.123-00:00",
            "1985-04-12T23:20:50+0000",
            "1985-04-12T23:20:50+00",
            "1985-04-12T23:20:50+24:00",
            "1985-04-12T23:20:50+00:60",
            "1985-00-12T23:20:50Z",
            "1985-13-12T23:20:50Z",
            "1985-04-00T23:20:50Z",
            "1985-04-32T23:20:50Z",
            "1985-04-12T24:00:00Z",
            "1985-04-12T23:60:50Z",
            "1985-04-12T23:59:60Z",
            "85-04-12T23:20:50Z",
            "+001985-04-12T23:20:50Z",
            "-1985-04-12T23:20:50Z",
            "12024-04-12T23:20:50Z",
            "1985-4-12T23:20:50Z",
            " 1985-04-12T23:20:50Z",
            "1985-04-12T23:20:50Z ",
            "1985-04-12T23:20:50ZZ",
            "1985-04-12T23:20:50.123z+01:00",
            "0000-01-01T00:00:00+01:00",
            "9999-12-31T23:59:59-01:00",
            "１985-04-12T23:20:50Z",
            "1985-04-12T23:20:50.12345678912345678901234567890123456789012345Z",
        ] {
            assert!(!is_valid(text), "{text}");
        }
    }

    #[test]
    fn days_that_do_not_exist_roll_over() {
        let normal = |text: &str| format_ms(parse_micros(text).unwrap());
        assert_eq!(normal("2023-02-30T12:00:00Z"), "2023-03-02T12:00:00.000Z");
        assert_eq!(normal("2024-02-30T12:00:00Z"), "2024-03-01T12:00:00.000Z");
        assert_eq!(normal("2023-06-31T00:00:00Z"), "2023-07-01T00:00:00.000Z");
        assert_eq!(normal("2021-02-31T00:00:00.5+23:59"), "2021-03-02T00:01:00.500Z");
    }

    #[test]
    fn known_moments() {
        for (text, micros) in [
            ("1970-01-01T00:00:00Z", 0),
            ("1969-12-31T23:59:59.9999999Z", -1),
            ("2001-09-09T01:46:40.123456789Z", 1_000_000_000_123_456),
            ("1985-04-12T23:20:50.52+01:45", 482_189_750_520_000),
            ("0000-01-01T00:00:00Z", YEAR_0),
            ("9999-12-31T23:59:59.999999Z", YEAR_10000 - 1),
        ] {
            assert_eq!(parse_micros(text), Some(micros), "{text}");
        }
        assert_eq!(format_ms(-1), "1969-12-31T23:59:59.999Z");
        assert_eq!(format_ms(YEAR_10000), "+010000-01-01T00:00:00.000Z");
        assert_eq!(format_ms(YEAR_0 - 1), "-000001-12-31T23:59:59.999Z");
        assert!(format_ms(i64::MAX).starts_with("+294247-01-10T"));
        assert!(format_ms(i64::MIN).starts_with("-290308-12-21T"));
    }

    #[test]
    fn the_lenient_reader_takes_more() {
        let micros = parse_micros("2023-01-02T03:04:05Z");
        for text in [
            "2023-01-02T03:04:05Z",
            " 2023-01-02 03:04:05 ",
            "2023-01-02t03:04:05z",
            "2023-01-02T03:04:05",
            "2023-01-02T03:04:05-00:00",
            "2023-01-02T04:04:05+0100",
            "2023-01-02T04:04:05+01",
        ] {
            assert_eq!(parse_micros_lenient(text), micros, "{text}");
        }
        assert_eq!(parse_micros_lenient("2023-01-02"), parse_micros("2023-01-02T00:00:00Z"));
        assert_eq!(parse_micros_lenient("2023-01-02T03:04Z"), parse_micros("2023-01-02T03:04:00Z"));
        for text in [
            "",
            "yesterday",
            "2023",
            "2023-01-02T",
            "2023-01-02T03",
            "2023-01-02T03:04:05+1",
            "2023-01-02T03:04:05Zx",
            "99999-01-01",
        ] {
            assert_eq!(parse_micros_lenient(text), None, "{text}");
        }
    }

    proptest! {
        #[test]
        fn what_is_written_reads_back(micros in YEAR_0..YEAR_10000) {
            let text = format_ms(micros);
            prop_assert_eq!(parse_micros(&text), Some(micros.div_euclid(1000) * 1000));
        }

        #[test]
        fn any_text_is_judged_without_panic(text in "[0-9TZtz:.+ é-]{0,30}") {
            let _ = (parse_micros(&text), parse_micros_lenient(&text));
        }

        #[test]
        fn any_number_can_be_written(micros in any::<i64>()) {
            prop_assert!(format_ms(micros).ends_with('Z'));
        }
    }
}
