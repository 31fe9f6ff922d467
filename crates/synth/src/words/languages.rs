//! A phrase grammar for each language: who did what, when; something before it, something after it.
//!
//! Subjects are third person singular and objects stand in the case that every verb of their language takes, so that
//! any draw is a sentence.

/// The phrases of one language.
#[derive(Debug)]
pub(crate) struct Grammar {
    /// The language tag, as in `langs`.
    pub(crate) tag: &'static str,
    /// How often it is drawn, of 100.
    pub(crate) share: usize,
    pub(crate) who: &'static [&'static str],
    pub(crate) did: &'static [&'static str],
    pub(crate) what: &'static [&'static str],
    pub(crate) when: &'static [&'static str],
    pub(crate) before: &'static [&'static str],
    pub(crate) after: &'static [&'static str],
    /// What people answer.
    pub(crate) replies: &'static [&'static str],
    /// Between words, and at the end of a sentence.
    pub(crate) space: &'static str,
    pub(crate) stop: &'static str,
    /// Whether the object goes in front of the verb.
    pub(crate) verb_last: bool,
}

/// All languages, the most frequent first. Shares add up to 100.
pub(crate) static LANGUAGES: [Grammar; 7] = [
    Grammar {
        tag: "en",
        share: 46,
        who: &[
            "my neighbour", "the baker", "our cat", "the night bus driver", "a stranger on the ferry", "the choir",
            "my sister", "the old clock maker", "somebody at the library", "the weather service", "the lighthouse keeper",
            "our landlady", "the postman", "a very small dog", "the whole street", "my left shoe", "the town band",
        ],
        did: &[
            "repaired", "painted", "found", "borrowed", "photographed", "lost", "described", "praised", "measured",
            "translated", "inherited", "hid", "recorded", "returned", "rebuilt", "misread", "baked",
        ],
        what: &[
            "the long bridge", "a sourdough loaf", "forty postcards", "the last tomato of the year", "a map of the harbour",
            "an enormous radio", "the missing chess piece", "a jar of blue ink", "the timetable", "a paper lantern",
            "the wrong bicycle", "three seconds of silence", "an umbrella with opinions", "the moon over the quarry",
            "a surprisingly good soup", "the index of the atlas", "half a cello",
        ],
        when: &[
            "this morning", "before the rain", "on the night train", "during the intermission", "again", "at low tide",
            "without a word", "for the third time this week", "between two meetings", "in front of everybody",
            "while the kettle boiled", "last winter",
        ],
        before: &["News from the hill:", "I can report that", "Today", "Nobody believes me, but", "Small joys:", "So"],
        after: &[
            "I have questions.", "More tomorrow.", "What a day.", "Send help, or cake.", "That is the whole story.",
            "Thoughts?", "I regret nothing.", "It was raining, of course.",
        ],
        replies: &[
            "This is the best thing I read today.", "Same here, every single time.", "I would like to hear more about that.",
            "Are you quite sure?", "My grandmother used to say exactly this.", "Counterpoint: no.", "Welcome home!",
            "Where can one get this?", "Thank you, I needed that.", "We should meet for tea.", "That explains the noise.",
        ],
        space: " ",
        stop: ".",
        verb_last: false,
    },
    Grammar {
        tag: "pt",
        share: 12,
        who: &["a vizinha", "o padeiro", "o gato da casa", "a minha irmã", "o carteiro", "a banda da vila", "o faroleiro"],
        did: &["consertou", "pintou", "encontrou", "perdeu", "fotografou", "devolveu", "escondeu", "elogiou"],
        what: &[
            "a ponte comprida", "um pão de fermento natural", "quarenta postais", "o último tomate do ano",
            "um mapa do porto", "a bicicleta errada", "um guarda-chuva enorme", "a lua sobre a pedreira",
        ],
        when: &["hoje de manhã", "antes da chuva", "no comboio da noite", "outra vez", "sem dizer nada", "na maré baixa"],
        before: &["Notícias do bairro:", "Ninguém acredita, mas", "Hoje", "Enfim,"],
        after: &["Que dia.", "Amanhã conto mais.", "Tenho perguntas.", "Não me arrependo de nada.", "Estava chovendo, claro."],
        replies: &["Adorei isto.", "Comigo também, sempre.", "Conta mais!", "Tens a certeza?", "Obrigada, precisava disto.", "Bom dia!"],
        space: " ",
        stop: ".",
        verb_last: false,
    },
    Grammar {
        tag: "ja",
        share: 12,
        who: &["隣の人が", "パン屋さんが", "うちの猫が", "妹が", "郵便屋さんが", "灯台守が", "図書館の人が"],
        did: &["直した", "描いた", "見つけた", "なくした", "写真に撮った", "返した", "隠した", "褒めた"],
        what: &["長い橋を", "古いラジオを", "四十枚の絵はがきを", "今年最後のトマトを", "港の地図を", "間違った自転車を", "紙の提灯を", "おいしいスープを"],
        when: &["今朝", "雨が降る前に", "夜行列車で", "また", "黙って", "引き潮のときに"],
        before: &["お知らせ：", "信じてもらえないけど、", "今日は", "さて、"],
        after: &["いい一日でした。", "続きは明日。", "質問があります。", "後悔はありません。", "もちろん雨でした。"],
        replies: &["すてきですね。", "私も同じです。", "もっと聞きたいです。", "本当ですか？", "ありがとうございます。", "おはようございます。"],
        space: "",
        stop: "。",
        verb_last: true,
    },
    Grammar {
        tag: "de",
        share: 11,
        who: &[
            "meine Nachbarin", "der Bäcker", "unsere Katze", "der Leuchtturmwärter", "die Blaskapelle", "mein Bruder",
            "jemand in der Bücherei", "die ganze Straße",
        ],
        did: &["reparierte", "malte", "fand", "verlor", "fotografierte", "lobte", "versteckte", "übersetzte", "vermaß"],
        what: &[
            "die lange Brücke", "ein Sauerteigbrot", "vierzig Postkarten", "die letzte Tomate des Jahres",
            "eine Karte des Hafens", "das falsche Fahrrad", "eine Laterne aus Papier", "den Mond über dem Steinbruch",
        ],
        when: &[
            "heute Morgen", "vor dem Regen", "im Nachtzug", "schon wieder", "ohne ein Wort", "bei Ebbe", "zwischen zwei Sitzungen",
        ],
        before: &["Neues vom Hügel:", "Es glaubt mir keiner, aber", "Kleine Freuden:", "Also:"],
        after: &["Was für ein Tag.", "Morgen mehr.", "Ich habe Fragen.", "Ich bereue nichts.", "Es regnete natürlich."],
        replies: &[
            "Das ist das Schönste, was ich heute lese.", "Geht mir genauso.", "Erzähl mehr davon!", "Bist du sicher?",
            "Danke, das tat gut.", "Gegenrede: nein.", "Guten Morgen!",
        ],
        space: " ",
        stop: ".",
        verb_last: false,
    },
    Grammar {
        tag: "es",
        share: 9,
        who: &["mi vecina", "el panadero", "nuestro gato", "la banda del pueblo", "mi hermana", "el cartero", "el farero"],
        did: &["reparó", "pintó", "encontró", "perdió", "fotografió", "devolvió", "escondió", "tradujo"],
        what: &[
            "el puente largo", "un pan de masa madre", "cuarenta postales", "el último tomate del año", "un mapa del puerto",
            "la bicicleta equivocada", "una linterna de papel", "la luna sobre la cantera",
        ],
        when: &["esta mañana", "antes de la lluvia", "en el tren nocturno", "otra vez", "sin decir nada", "con la marea baja"],
        before: &["Noticias del cerro:", "Nadie me cree, pero", "Hoy", "Bueno,"],
        after: &["¡Qué día!", "Mañana más.", "Tengo preguntas.", "No me arrepiento de nada.", "Llovía, claro."],
        replies: &["Me encanta.", "A mí también me pasa.", "¡Cuéntanos más!", "¿Estás segura?", "Gracias, lo necesitaba.", "¡Buenos días!"],
        space: " ",
        stop: ".",
        verb_last: false,
    },
    Grammar {
        tag: "fr",
        share: 6,
        who: &["ma voisine", "le boulanger", "notre chat", "la fanfare du village", "ma sœur", "le facteur", "le gardien du phare"],
        did: &["a réparé", "a peint", "a trouvé", "a perdu", "a photographié", "a rendu", "a caché", "a traduit"],
        what: &[
            "le long pont", "un pain au levain", "quarante cartes postales", "la dernière tomate de l'année",
            "une carte du port", "le mauvais vélo", "une lanterne en papier", "la lune au-dessus de la carrière",
        ],
        when: &["ce matin", "avant la pluie", "dans le train de nuit", "encore une fois", "sans un mot", "à marée basse"],
        before: &["Des nouvelles de la colline :", "Personne ne me croit, mais", "Aujourd'hui,", "Bref,"],
        after: &["Quelle journée !", "La suite demain.", "J'ai des questions.", "Je ne regrette rien.", "Il pleuvait, bien sûr."],
        replies: &["J'adore.", "Pareil chez moi.", "Racontez-nous la suite !", "Vous êtes sûre ?", "Merci, ça fait du bien.", "Bonjour !"],
        space: " ",
        stop: ".",
        verb_last: false,
    },
    Grammar {
        tag: "ko",
        share: 4,
        who: &["옆집 사람이", "빵집 주인이", "우리 고양이가", "동생이", "우체부가", "등대지기가"],
        did: &["고쳤다", "그렸다", "찾았다", "잃어버렸다", "사진으로 찍었다", "돌려주었다", "숨겼다"],
        what: &["긴 다리를", "오래된 라디오를", "엽서 마흔 장을", "올해 마지막 토마토를", "항구 지도를", "종이 등불을", "맛있는 수프를"],
        when: &["오늘 아침에", "비가 오기 전에", "밤기차에서", "또다시", "말없이", "썰물 때"],
        before: &["동네 소식:", "아무도 믿지 않지만,", "오늘은", "자,"],
        after: &["멋진 하루였다.", "내일 계속.", "질문이 있다.", "후회는 없다."],
        replies: &["정말 멋지네요.", "저도 그래요.", "더 듣고 싶어요.", "정말인가요?", "고마워요.", "좋은 아침이에요."],
        space: " ",
        stop: ".",
        verb_last: true,
    },
];
