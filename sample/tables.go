package sample

import "fmt"

// The values that generated events are drawn from. Their order and number are part of the data sets: a change
// here changes every event and every published figure.

// eventType is one kind of event with its weight; the weights add up to 1000.
type eventType struct {
	name   string
	weight uint64
}

var eventTypes = [...]eventType{
	{"page_view", 420}, {"click", 210}, {"scroll", 120}, {"view_item", 90}, {"search", 50}, {"add_to_cart", 40},
	{"login", 20}, {"remove_from_cart", 15}, {"begin_checkout", 12}, {"purchase", 10}, {"share", 8}, {"error", 5},
}

var sections = [...]string{
	"home", "electronics", "books", "garden", "fashion", "sports", "toys", "grocery", "beauty", "auto", "music", "deals",
}

// asciiWords is how many of words, from the front, may stand in a URL.
const asciiWords = 54

var words = [...]string{
	"compact", "portable", "wireless", "classic", "organic", "vintage", "premium", "waterproof", "ultra", "smart",
	"folding", "ceramic", "leather", "cotton", "steel", "bamboo", "speaker", "camera", "jacket", "notebook", "lamp",
	"kettle", "backpack", "headphones", "bottle", "keyboard", "blender", "sneakers", "watch", "tent", "chair", "guitar",
	"mirror", "puzzle", "mug", "blanket", "scarf", "charger", "tripod", "desk", "set", "bundle", "edition", "series",
	"kit", "pack", "large", "small", "red", "blue", "green", "black", "white", "amber", "für", "café", "Größe", "日本",
	"niño", "плед", "&", "–", "№5", "pro",
}

var (
	deviceTypes = [...]string{"desktop", "mobile", "tablet"}
	systems     = [...]string{"Windows", "macOS", "iOS", "Android", "Linux"}
	resolutions = [...][2]uint64{{1920, 1080}, {2560, 1440}, {1440, 900}, {390, 844}, {412, 915}, {820, 1180}, {1366, 768}, {3840, 2160}}
)

var cities = [...]struct{ name, country string }{
	{"Berlin", "DE"}, {"São Paulo", "BR"}, {"東京", "JP"}, {"New York", "US"}, {"Chicago", "US"}, {"London", "GB"},
	{"Paris", "FR"}, {"München", "DE"}, {"Kraków", "PL"}, {"Zürich", "CH"}, {"Mumbai", "IN"}, {"Bengaluru", "IN"},
	{"Toronto", "CA"}, {"Sydney", "AU"}, {"Madrid", "ES"}, {"Lisboa", "PT"}, {"Roma", "IT"}, {"Wien", "AT"},
	{"Praha", "CZ"}, {"Stockholm", "SE"}, {"Oslo", "NO"}, {"Helsinki", "FI"}, {"Dublin", "IE"}, {"서울", "KR"},
	{"Singapore", "SG"}, {"Los Angeles", "US"}, {"Houston", "US"}, {"Seattle", "US"}, {"México", "MX"}, {"Bogotá", "CO"},
	{"Nairobi", "KE"}, {"Lagos", "NG"},
}

var tags = [...]string{
	"promo", "mobile", "returning", "new_user", "ab:A", "ab:B", "ab:C", "newsletter", "affiliate", "paid", "organic",
	"eu", "us", "apac", "vip", "test",
}

// userAgents is the number of different user agents.
const userAgents = 120

var userAgent = func() (out [userAgents]string) {
	for k := range out {
		m := 100 + k%24
		switch k % 5 {
		case 0:
			out[k] = fmt.Sprintf("Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/%d.0.0.0 Safari/537.36", m)
		case 1:
			out[k] = fmt.Sprintf("Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/17.%d Safari/605.1.15", m%10)
		case 2:
			out[k] = fmt.Sprintf("Mozilla/5.0 (iPhone; CPU iPhone OS 17_%d like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/17.0 Mobile/15E148 Safari/604.1", m%10)
		case 3:
			out[k] = fmt.Sprintf("Mozilla/5.0 (Linux; Android 14; Pixel 8) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/%d.0.0.0 Mobile Safari/537.36", m)
		default:
			out[k] = fmt.Sprintf("Mozilla/5.0 (X11; Linux x86_64; rv:%d.0) Gecko/20100101 Firefox/%d.0", m, m)
		}
	}
	return out
}()
