import java.io.PrintStream;
import java.nio.charset.StandardCharsets;
import java.time.Instant;
import java.time.ZoneId;
import java.time.format.DateTimeFormatter;
import java.time.zone.ZoneOffsetTransition;
import java.time.zone.ZoneRules;
import java.util.ArrayList;
import java.util.List;
import java.util.Locale;
import java.util.Map;
import java.util.TimeZone;
import java.util.TreeMap;
import java.util.TreeSet;

/**
 * Prints the English names of time zones as java.time.format.DateTimeFormatter prints them, for zonenames.txt.
 *
 * <pre>java ZoneNames.java > ../zonenames.txt     (a JDK 17)</pre>
 *
 * Lines: "z|zzzz|z in summer|zzzz in summer|v|vvvv TAB zone zone ...", zones with the same names together.
 */
public class ZoneNames {
    public static void main(String[] args) {
        Map<String, List<String>> zones = new TreeMap<>();
        for (String id : new TreeSet<>(ZoneId.getAvailableZoneIds())) {
            if (id.startsWith("SystemV/")) {
                continue;
            }
            ZoneId zone = ZoneId.of(id);
            TimeZone tz = TimeZone.getTimeZone(zone);
            String[] standard = {tz.getDisplayName(false, TimeZone.SHORT, Locale.US), tz.getDisplayName(false, TimeZone.LONG, Locale.US)};
            String[] summer = {tz.getDisplayName(true, TimeZone.SHORT, Locale.US), tz.getDisplayName(true, TimeZone.LONG, Locale.US)};
            DateTimeFormatter text = DateTimeFormatter.ofPattern("z|zzzz|v|vvvv", Locale.US);
            Instant t = Instant.parse("1970-01-01T00:00:00Z");
            ZoneRules rules = zone.getRules();
            String generic = null;
            for (int i = 0; i < 400; i++) {
                String[] name = text.format(t.atZone(zone)).split("\\|");
                String[] want = rules.isDaylightSavings(t) ? summer : standard;
                if (generic == null) {
                    generic = name[2] + "|" + name[3];
                    if (i == 0 && !(name[0].equals(want[0]) && name[1].equals(want[1]))) {
                        // The formatter knows zones without names by their id, TimeZone by their offset.
                        standard = summer = want = new String[] {name[0], name[1]};
                    }
                }
                if (!(name[0].equals(want[0]) && name[1].equals(want[1]) && generic.equals(name[2] + "|" + name[3]))) {
                    throw new IllegalStateException(id + " at " + t + ": " + String.join("|", name));
                }
                ZoneOffsetTransition next = rules.nextTransition(t);
                if (next == null) {
                    break;
                }
                t = next.getInstant();
            }
            zones.computeIfAbsent(String.join("|", standard) + "|" + String.join("|", summer) + "|" + generic, k -> new ArrayList<>()).add(id);
        }
        PrintStream out = new PrintStream(System.out, false, StandardCharsets.UTF_8);
        out.println("# English time zone names of Unicode CLDR and the IANA time zone names, as Java " + System.getProperty("java.version") + " prints them.");
        zones.forEach((names, ids) -> out.println(names + "\t" + String.join(" ", ids)));
        out.flush();
    }
}
