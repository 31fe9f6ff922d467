//! Word lists from which names, bios and posts are put together. All of them are ours and mean nothing.

mod languages;

pub(crate) use languages::{Grammar, LANGUAGES};

/// First halves of handles.
pub(crate) const TRAITS: [&str; 61] = [
    "amber", "brisk", "calm", "dapper", "early", "fabled", "gentle", "hazel", "ivory", "jolly", "keen", "lively", "mellow",
    "nimble", "opal", "plucky", "quiet", "rustic", "sunny", "tidy", "umber", "vivid", "witty", "young", "zesty", "ashen",
    "bold", "copper", "dusky", "elder", "fern", "golden", "humble", "indigo", "jaunty", "kindly", "lunar", "misty",
    "noble", "olive", "proud", "rapid", "silver", "tender", "urban", "violet", "wild", "yonder", "zany", "arctic",
    "breezy", "cosmic", "drifting", "electric", "frosty", "grassy", "hidden", "inky", "jade", "knotty", "loyal",
];

/// Second halves of handles.
pub(crate) const CREATURES: [&str; 67] = [
    "wren", "otter", "badger", "heron", "lynx", "finch", "marten", "newt", "osprey", "puffin", "quail", "raven", "stoat",
    "teal", "urchin", "vole", "walrus", "yak", "zebra", "avocet", "beaver", "curlew", "dormouse", "egret", "ferret",
    "gecko", "hare", "ibis", "jackdaw", "kestrel", "lapwing", "magpie", "narwhal", "oriole", "plover", "rook", "shrew",
    "tern", "thrush", "viper", "weasel", "wombat", "bison", "caribou", "dolphin", "ermine", "falcon", "gannet",
    "hedgehog", "iguana", "jaguar", "koala", "lemur", "moose", "nightjar", "ocelot", "panther", "rabbit", "salmon",
    "toad", "swift", "whimbrel", "mole", "crane", "dingo", "gull", "petrel",
];

/// Given names of display names.
pub(crate) const GIVEN: [&str; 48] = [
    "Alma", "Bruno", "Carla", "Dario", "Edda", "Felix", "Greta", "Hugo", "Inés", "Jonas", "Klara", "Levi", "Mina", "Nils",
    "Olga", "Pablo", "Quinn", "Rosa", "Sven", "Tilda", "Uwe", "Vera", "Wanda", "Xaver", "Yuki", "Zoé", "Amina", "Björn",
    "Chiara", "Deniz", "Esra", "Farid", "Gustavo", "Haruka", "Isla", "João", "Keiko", "Léa", "Mateus", "Noor", "Oskar",
    "Priya", "Ravi", "Saoirse", "Tomás", "Ulla", "Vikram", "Włodek",
];

/// Family names of display names.
pub(crate) const FAMILY: [&str; 40] = [
    "Ahlgren", "Baptista", "Castellan", "Duarte", "Eriksen", "Fontaine", "Grünwald", "Hayashi", "Ionescu", "Jankowski",
    "Kessler", "Lindqvist", "Marchetti", "Nakamura", "O'Dell", "Pereira", "Quispe", "Rossi", "Sørensen", "Tanaka",
    "Ullmann", "Vasquez", "Winter", "Yilmaz", "Zimmer", "Abara", "Bianchi", "Costa", "Dufour", "Engel", "Ferreira",
    "Gallo", "Hoang", "Iversen", "Jung", "Kowalczyk", "Larsen", "Moreau", "Novák", "Ortega",
];

/// What people do, for bios.
pub(crate) const TRADES: [&str; 30] = [
    "baker", "botanist", "bus driver", "cartographer", "cellist", "cheese maker", "choir singer", "cobbler",
    "crossword setter", "dentist", "ferry pilot", "gardener", "geologist", "glass blower", "historian", "illustrator",
    "lighthouse keeper", "luthier", "midwife", "night nurse", "optician", "potter", "radio host", "sailor", "stage hand",
    "surveyor", "teacher", "translator", "typesetter", "vet",
];

/// What people like, for bios and list names.
pub(crate) const TOPICS: [&str; 32] = [
    "allotments", "astronomy", "bicycles", "board games", "bread", "bridges", "castles", "chess", "cinema", "clouds",
    "coffee", "ferries", "folk music", "football", "fungi", "gardens", "jazz", "knitting", "lakes", "libraries", "maps",
    "mountains", "old radios", "pottery", "rain", "rowing", "sourdough", "stamps", "trains", "typefaces", "weather",
    "winter swimming",
];

/// Hashtags, without the sign.
pub(crate) const TAGS: [&str; 36] = [
    "gardening", "bread", "trains", "astronomy", "birds", "chess", "coffee", "cycling", "cinema", "jazz", "knitting",
    "maps", "mountains", "photography", "pottery", "rain", "reading", "rowing", "rust", "sourdough", "sunset", "weather",
    "Garten", "Brot", "Zug", "jardín", "pan", "cinéma", "vélo", "música", "café", "写真", "料理", "散歩", "봄", "여행",
];

/// Emoji that close a post.
pub(crate) const EMOJI: [&str; 20] = [
    "🌱", "🥖", "🚂", "🔭", "🐦", "♟️", "☕", "🚲", "🎬", "🎷", "🧶", "🗺️", "🏔️", "📷", "🏺", "🌧️", "📚", "🚣", "👩‍🌾", "🏳️‍🌈",
];

/// Path words of links.
pub(crate) const SLUGS: [&str; 24] = [
    "the-long-bridge", "a-winter-loaf", "night-train-north", "how-clouds-form", "the-last-ferry", "on-quiet-radio",
    "an-atlas-of-rain", "chess-by-post", "the-library-boat", "wool-and-water", "sunday-at-the-lake", "seven-mushrooms",
    "a-small-museum", "letters-from-the-pass", "the-clock-mender", "harvest-notes", "field-recordings", "old-maps-new-roads",
    "the-orchard-year", "glass-and-sand", "twelve-bus-stops", "paper-lanterns", "an-island-choir", "the-salt-road",
];

/// Hosts of links; reserved for examples, so nobody is named and nothing resolves.
pub(crate) const HOSTS: [&str; 6] =
    ["news.example", "www.reading.example", "blog.example", "radio.example", "www.recipes.example", "maps.example"];
