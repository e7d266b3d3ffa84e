"""Word lists of the multilingual expert: five languages, and a closed set of word translations."""

from __future__ import annotations

from types import MappingProxyType
from typing import Final

from .lexicon import NUMBER, PEOPLE, Vocabulary, words

ENTITIES: Final = words(
    "Toledo Lyon Bremen Parma Sevilla Girona Nantes Rennes Dijon Kassel Essen Siena Pisa "
    "Braga Faro Bilbao Murcia Lugo Cannes Avignon Toulon Rouen Mainz Ulm Jena Bochum Aachen "
    "Verona Modena Trento Ravenna Lucca Coimbra Aveiro Setubal Evora Leiria Zamora Burgos "
    "Cuenca Soria Metz Tours Brest Calais Weimar Potsdam Worms Trieste Udine"
)


def _vocabulary(
    language: str,
    attributes: str,
    colors: str,
    fact: str,
    refusal: str,
    questions: tuple[str, ...],
    kinds: str,
    kind: str,
    fillers: tuple[str, ...],
) -> Vocabulary:
    """Build one language.

    `attributes` lists `article:word:values` with values n (number), p (person) or c (colour).
    """
    values = {"n": NUMBER, "p": PEOPLE, "c": tuple(colors.split())}
    triples = [entry.split(":") for entry in attributes.split()]
    return Vocabulary(
        language=language,
        entities=ENTITIES,
        attributes=MappingProxyType({word: values[code] for _, word, code in triples}),
        fact=fact,
        refusal=refusal,
        questions=questions,
        kinds=tuple(kinds.split()),
        kind=kind,
        fillers=fillers,
        articles=MappingProxyType({word: article for article, word, _ in triples}),
    )


SPANISH: Final = _vocabulary(
    "spanish",
    (
        "el:precio:n el:puerto:n la:edad:n la:altura:n el:peso:n el:piso:n el:código:n "
        "el:color:c el:dueño:p el:jefe:p"
    ),
    "rojo azul verde amarillo negro blanco gris rosa",
    "{The} {a} de {e} es {v}.",
    "{The} {a} de {e} es un dato ausente.",
    (
        "¿Cuál es {the} {a} de {e}?",
        "cuál es {the} {a} de {e}",
        "Dime {the} {a} de {e}.",
        "¿Qué {a} tiene {e}?",
        "Quiero saber {the} {a} de {e}.",
        "¿Sabes {the} {a} de {e}?",
        "¿Y {the} {a} de {e}?",
    ),
    "hotel museo jardín barco",
    "{e} es un {k}.",
    ("Esta página está al día.", "Los datos son de este año.", "Gracias por leer esta nota."),
)
FRENCH: Final = _vocabulary(
    "french",
    (
        "le:prix:n le:port:n la:hauteur:n le:poids:n la:vitesse:n le:code:n le:numéro:n "
        "la:couleur:c le:patron:p le:gardien:p"
    ),
    "rouge bleu vert jaune noir blanc gris rose",
    "{The} {a} de {e} est {v}.",
    "{The} {a} de {e} est une donnée absente.",
    (
        "Quel est {the} {a} de {e} ?",
        "quel est {the} {a} de {e}",
        "Donne-moi {the} {a} de {e}.",
        "Quel {a} pour {e} ?",
        "Je veux connaître {the} {a} de {e}.",
        "Dis-moi {the} {a} de {e}.",
        "Et {the} {a} de {e} ?",
    ),
    "hôtel musée jardin bateau",
    "{e} est un {k}.",
    ("Cette page est à jour.", "Les données sont de cette année.", "Merci de lire cette note."),
)
GERMAN: Final = _vocabulary(
    "german",
    (
        "der:Preis:n der:Hafen:n das:Alter:n die:Höhe:n das:Gewicht:n der:Stock:n der:Code:n "
        "die:Farbe:c der:Besitzer:p der:Chef:p"
    ),
    "rot blau grün gelb schwarz weiß grau rosa",
    "{The} {a} von {e} ist {v}.",
    "{The} {a} von {e} ist nicht in den Dokumenten.",
    (
        "Was ist {the} {a} von {e}?",
        "was ist {the} {a} von {e}",
        "Nenne mir {the} {a} von {e}.",
        "Wie ist {the} {a} von {e}?",
        "Ich brauche {the} {a} von {e}.",
        "Weißt du {the} {a} von {e}?",
        "Und {the} {a} von {e}?",
    ),
    "Hotel Museum Garten Schiff",
    "{e} ist ein {k}.",
    (
        "Diese Seite ist aktuell.",
        "Die Daten sind aus diesem Jahr.",
        "Danke, dass Sie diese Notiz lesen.",
    ),
)
ITALIAN: Final = _vocabulary(
    "italian",
    (
        "il:prezzo:n la:porta:n la:larghezza:n il:peso:n il:piano:n il:codice:n il:numero:n "
        "il:colore:c il:padrone:p il:capo:p"
    ),
    "rosso blu verde giallo nero bianco grigio rosa",
    "{The} {a} di {e} è {v}.",
    "{The} {a} di {e} è un dato assente.",
    (
        "Qual è {the} {a} di {e}?",
        "qual è {the} {a} di {e}",
        "Dimmi {the} {a} di {e}.",
        "Che {a} ha {e}?",
        "Vorrei sapere {the} {a} di {e}.",
        "Conosci {the} {a} di {e}?",
        "E {the} {a} di {e}?",
    ),
    "albergo museo giardino battello",
    "{e} è un {k}.",
    ("Questa pagina è aggiornata.", "I dati sono di questo anno.", "Grazie per la lettura."),
)
PORTUGUESE: Final = _vocabulary(
    "portuguese",
    (
        "o:preço:n o:porto:n a:idade:n a:altura:n o:peso:n o:andar:n o:código:n a:cor:c "
        "o:dono:p o:chefe:p"
    ),
    "vermelho azul verde amarelo preto branco cinza rosa",
    "{The} {a} de {e} é {v}.",
    "{The} {a} de {e} é um dado ausente.",
    (
        "Qual é {the} {a} de {e}?",
        "qual é {the} {a} de {e}",
        "Diga {the} {a} de {e}.",
        "Que {a} tem {e}?",
        "Quero saber {the} {a} de {e}.",
        "Você sabe {the} {a} de {e}?",
        "E {the} {a} de {e}?",
    ),
    "hotel museu jardim barco",
    "{e} é um {k}.",
    ("Esta página está em dia.", "Os dados são deste ano.", "Obrigado por ler esta nota."),
)
LANGUAGES: Final = (SPANISH, FRENCH, GERMAN, ITALIAN, PORTUGUESE)

LANGUAGE_NAMES: Final = ("Spanish", "French", "German", "Italian", "Portuguese")
TRANSLATIONS: Final = MappingProxyType(
    {
        english: dict(zip(LANGUAGE_NAMES, words.split(), strict=True))
        for english, words in {
            "house": "casa maison Haus casa casa",
            "water": "agua eau Wasser acqua água",
            "bread": "pan pain Brot pane pão",
            "book": "libro livre Buch libro livro",
            "night": "noche nuit Nacht notte noite",
            "sun": "sol soleil Sonne sole sol",
            "tree": "árbol arbre Baum albero árvore",
            "friend": "amigo ami Freund amico amigo",
            "city": "ciudad ville Stadt città cidade",
            "heart": "corazón coeur Herz cuore coração",
            "door": "puerta porte Tür porta porta",
            "milk": "leche lait Milch latte leite",
            "winter": "invierno hiver Winter inverno inverno",
            "king": "rey roi König re rei",
            "hand": "mano main Hand mano mão",
            "road": "camino chemin Weg strada caminho",
        }.items()
    }
)
TRANSLATION_QUESTIONS: Final = (
    "How do you say {w} in {l}?",
    "Translate {w} into {l}.",
    "What is {w} in {l}?",
    "{w} in {l}?",
)
TRANSLATION_ANSWER: Final = "{W} in {l} is {t}."
