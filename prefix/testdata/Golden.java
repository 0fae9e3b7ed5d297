import java.io.PrintStream;
import java.nio.charset.StandardCharsets;
import java.time.Instant;
import java.time.ZoneId;
import java.time.ZonedDateTime;
import java.time.format.DateTimeFormatter;
import java.time.zone.ZoneOffsetTransition;
import java.time.zone.ZoneRules;
import java.time.zone.ZoneRulesProvider;
import java.util.ArrayList;
import java.util.LinkedHashSet;
import java.util.List;
import java.util.Locale;
import java.util.Random;
import java.util.Set;
import java.util.TreeSet;

/**
 * Prints what java.time.format.DateTimeFormatter makes of date patterns, for the tests of this package.
 *
 * <pre>java Golden.java > golden.txt     (a JDK 17)</pre>
 *
 * Lines: "# comment"; "@ zone seconds nanos" is a sample; "= pattern TAB text TAB text ..." has one text for
 * each sample, in order; "? sample TAB pattern TAB text" is one pattern at one sample; "! pattern" is refused
 * by Java; "~ zone TAB seconds TAB text" is zone text by the pattern that the comment above it gives.
 */
public class Golden {
    static final String ZONE_TEXT = "z|zzzz|v|vvvv|O|OOOO|XXXXX";
    static final PrintStream out = new PrintStream(System.out, false, StandardCharsets.UTF_8);
    static final List<ZonedDateTime> samples = new ArrayList<>();

    static void sample(String instant, String... zones) {
        for (String z : zones) {
            samples.add(Instant.parse(instant).atZone(ZoneId.of(z)));
        }
    }

    static String format(String pattern, ZonedDateTime t) {
        try {
            return DateTimeFormatter.ofPattern(pattern, Locale.US).format(t);
        } catch (RuntimeException e) {
            return null;
        }
    }

    static void all(String pattern) {
        StringBuilder line = new StringBuilder("= ").append(pattern);
        for (ZonedDateTime t : samples) {
            String s = format(pattern, t);
            if (s == null) {
                out.println("! " + pattern);
                return;
            }
            line.append('\t').append(s);
        }
        out.println(line);
    }

    public static void main(String[] args) {
        sample("2026-07-13T14:05:09.123456789Z", "UTC", "America/New_York", "Asia/Kolkata", "Europe/Dublin");
        sample("2024-02-29T23:59:59.999999999Z", "UTC", "Europe/Berlin", "Pacific/Apia");
        sample("2024-12-30T00:00:00Z", "UTC", "America/Los_Angeles");
        sample("2025-01-01T00:00:00Z", "UTC", "Australia/Lord_Howe", "Europe/Dublin");
        sample("2025-12-28T12:00:00.000001Z", "UTC", "Asia/Kathmandu");
        sample("2026-03-29T00:59:59Z", "Europe/Berlin");
        sample("2026-03-29T01:00:00Z", "Europe/Berlin", "Africa/Casablanca");
        sample("2026-11-01T05:30:00Z", "America/New_York");
        sample("2026-11-01T06:30:00Z", "America/New_York", "Etc/GMT+5");
        sample("1999-12-31T18:00:00.000000001Z", "UTC", "Asia/Tokyo");
        sample("1970-01-01T00:00:00Z", "UTC", "America/Sao_Paulo");
        sample("2000-01-02T05:06:07.08Z", "UTC");
        sample("2026-05-05T21:30:30.5Z", "UTC", "America/St_Johns");
        sample("1969-12-31T23:59:59.999Z", "UTC");
        sample("1582-10-15T11:00:00Z", "UTC");
        sample("+010000-01-01T00:00:00Z", "UTC");
        sample("+123456-08-09T10:11:12Z", "UTC");
        sample("0000-03-01T12:00:01Z", "UTC");
        sample("-0044-03-15T03:00:00Z", "UTC");
        for (String time : "00:00:59.9 00:01:00 05:59:59 06:00:00 11:59:59 12:00:59 12:01:00 17:59:59 18:00:00 20:59:59 21:00:00".split(" ")) {
            sample("2026-01-05T" + time + "Z", "UTC");
        }

        out.println("# DateTimeFormatter of Java " + System.getProperty("java.version") + ", Locale.US, time zone data "
                + ZoneRulesProvider.getVersions("UTC").lastEntry().getKey());
        for (ZonedDateTime t : samples) {
            out.println("@ " + t.getZone() + " " + t.toEpochSecond() + " " + t.getNano());
        }

        // Every letter that the service does not refuse by itself, in every number.
        Set<String> patterns = new LinkedHashSet<>();
        for (char c = 'A'; c <= 'z'; c++) {
            if (!Character.isLetter(c) || c == 'p' || c == 'V') {
                continue;
            }
            for (int n = 1; n <= 7; n++) {
                patterns.add(String.valueOf(c).repeat(n));
            }
            for (int n : new int[] {9, 10, 11, 17, 18, 19, 20, 25}) {
                patterns.add(String.valueOf(c).repeat(n));
            }
        }
        for (String p : new String[] {
                "yyyy/MM/dd/HH/", "yyyy-MM-dd", "yyyy-MM-dd-HH-mm-ss", "'year='yyyy'/month='MM'/day='dd'/hour='HH'/'",
                "yyyy''MM", "''", "''''", "'a''b'", "'o''clock' h a", "hh 'o''clock' a, zzzz", "'", "'abc", "yyyy'", "'''", "'''''",
                "[yyyy]", "[yyyy", "yyyy]", "[[yyyy]]", "[yyyy[-MM[-dd]]]", "[]", "[", "]", "[]]", "#", "{", "'{'yyyy'#'", "yyyy#",
                "EEE, d MMM yyyy HH:mm:ss Z", "yyyy-'W'ww-e", "YYYY-'W'ww", "yyyyMMddHHmmssSSS", "yyyy.MM.dd G 'at' HH:mm:ss z",
                "h:mm a", "K:mm a, z", "hh B", "uuuu-MM-dd'T'HH:mm:ss.SSSSSSXXX", "D", "DDD", "yyyyDDD", "QQQ yyyy", "qqqq", "e/c/E",
                "EEEE-EEEEE", "LLLL/MMMM", "n/N/A", "\u00e9 yyyy \u4e2d", "\ud83d\ude00yyyy", "yyyy MM dd", "", " ", "~!@$%^&*()_+=:;<>,.?\\|\"`0123456789",
                "yyMMdd", "yMd", "YYww", "F W w", "HHmm'h'ss's'", "GGGGG y", "OOOO X x", "yyyy-MM-dd'T'HH:mm:ss.SSSxx", "a[a]a", "SSSSSSSSS.n",
            }) {
            patterns.add(p);
        }
        for (String p : patterns) {
            all(p);
        }

        // Patterns nobody would write. The seed is fixed: the file is the same in every run.
        Random r = new Random(20260713);
        String letters = "GuyYDMLdQqwWEecFahKkHmsSAnNzOXxZBgv";
        String others = "-/:. _'''[]#,=";
        Set<String> random = new TreeSet<>();
        while (random.size() < 2500) {
            StringBuilder p = new StringBuilder();
            for (int n = 1 + r.nextInt(5); n > 0; n--) {
                int kind = r.nextInt(10);
                if (kind < 6) {
                    int count = 1 + r.nextInt(r.nextInt(4) == 0 ? 6 : 2);
                    p.append(String.valueOf(letters.charAt(r.nextInt(letters.length()))).repeat(count));
                } else if (kind < 9) {
                    p.append(others.charAt(r.nextInt(others.length())));
                } else {
                    p.append("'r").append(r.nextInt(10)).append(r.nextInt(3) == 0 ? "" : "'");
                }
            }
            random.add(p.toString());
        }
        for (String p : random) {
            int i = r.nextInt(samples.size());
            String s = format(p, samples.get(i));
            out.println(s == null ? "! " + p : "? " + i + "\t" + p + "\t" + s);
        }

        out.println("# zone text: " + ZONE_TEXT);
        for (String zone : new TreeSet<>(ZoneId.getAvailableZoneIds())) {
            if (zone.startsWith("SystemV/")) {
                continue;
            }
            for (long second : new long[] {1705276800, 1721001600}) { // the middle of January and July 2024
                ZonedDateTime t = Instant.ofEpochSecond(second).atZone(ZoneId.of(zone));
                out.println("~ " + zone + "\t" + second + "\t" + format(ZONE_TEXT, t));
            }
        }
        out.println("# zones whose daylight saving time is negative in the sources: every transition");
        for (String zone : new String[] {"Europe/Dublin", "Africa/Casablanca", "Africa/El_Aaiun", "Africa/Windhoek", "Europe/Prague"}) {
            ZoneRules rules = ZoneId.of(zone).getRules();
            Instant end = Instant.parse("2026-01-01T00:00:00Z");
            ZoneOffsetTransition t = rules.nextTransition(Instant.parse("1970-01-01T00:00:00Z"));
            for (; t != null && t.getInstant().isBefore(end); t = rules.nextTransition(t.getInstant())) {
                for (long second : new long[] {t.toEpochSecond() - 1, t.toEpochSecond()}) {
                    ZonedDateTime z = Instant.ofEpochSecond(second).atZone(ZoneId.of(zone));
                    out.println("~ " + zone + "\t" + second + "\t" + format(ZONE_TEXT, z));
                }
            }
        }
        out.flush();
    }
}
