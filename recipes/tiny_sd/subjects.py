"""Choose about 600 well-known subjects and say what a person would type for each."""

import random
import re
from dataclasses import dataclass
from typing import Any


def words(text: str) -> frozenset[str]:
    """Return the words of a text as a set."""
    return frozenset(text.split())


WHOLE_GROUPS = words(
    """
    animal-amphibian animal-bird animal-bug animal-mammal animal-marine animal-reptile award-medal cat-face computer
    dishware drink event face-costume face-glasses face-hat face-negative food-asian food-fruit food-prepared
    food-sweet food-vegetable game heart hotel household lock medical monkey-face music musical-instrument phone
    place-building place-geographic place-other place-religious plant-flower plant-other science sport tool
    transport-air transport-ground transport-water
    """
)
"""Subcategories of the emoji list taken whole, less `LEFT_OUT`."""

PICKED = words(
    """
    grinning smile joy slightly_smiling_face upside_down_face wink blush innocent heart_eyes star-struck
    kissing_heart yum stuck_out_tongue zany_face money_mouth_face hugging_face shushing_face thinking_face
    zipper_mouth_face neutral_face no_mouth smirk face_with_rolling_eyes grimacing lying_face sleepy drooling_face
    sleeping mask face_with_thermometer nauseated_face hot_face cold_face dizzy_face exploding_head confused
    open_mouth flushed pleading_face cry sob scream yawning_face boom dizzy sweat_drops speech_balloon
    thought_balloon muscle foot ear nose brain anatomical_heart lungs tooth bone eyes eye lips santa footprints
    earth_africa earth_americas world_map compass octagonal_sign hourglass watch alarm_clock stopwatch full_moon
    crescent_moon thermometer sunny full_moon_with_face sun_with_face ringed_planet star star2 milky_way cloud
    partly_sunny rain_cloud snow_cloud lightning tornado cyclone rainbow umbrella zap snowflake snowman comet fire
    droplet ocean frame_with_picture art thread yarn eyeglasses dark_sunglasses goggles lab_coat necktie shirt jeans
    scarf gloves coat socks dress kimono shorts bikini purse handbag shopping_bags school_satchel mans_shoe
    athletic_shoe hiking_boot high_heel sandal boot crown womans_hat tophat mortar_board billed_cap lipstick ring
    gem speaker mega postal_horn bell movie_camera film_projector clapper tv camera video_camera mag candle bulb
    flashlight izakaya_lantern closed_book book green_book blue_book orange_book books notebook scroll newspaper
    moneybag coin dollar money_with_wings credit_card email package mailbox postbox pencil2 lower_left_fountain_pen
    lower_left_paintbrush lower_left_crayon memo briefcase file_folder calendar chart_with_upwards_trend bar_chart
    clipboard pushpin round_pushpin paperclip straight_ruler scissors wastebasket headstone nazar_amulet warning
    red_circle large_orange_circle large_yellow_circle large_green_circle large_blue_circle large_purple_circle
    black_circle large_red_square large_yellow_square large_green_square large_blue_square small_red_triangle
    """
)
"""Short names taken one by one from the other subcategories."""

LEFT_OUT = words(
    """
    disguised_face rage face_with_symbols_on_mouth imp japanese_ogre japanese_goblin smile_cat joy_cat smirk_cat
    kissing_cat scream_cat pouting_cat hear_no_evil speak_no_evil heartpulse heartbeat revolving_hearts
    heart_decoration heavy_heart_exclamation_mark_ornament heart_on_fire mending_heart pink_heart light_blue_heart
    grey_heart orangutan guide_dog service_dog tiger2 leopard moose bison ox water_buffalo boar ram
    dromedary_camel mammoth mouse2 rat hamster chipmunk skunk badger hatched_chick dodo wing black_bird goose
    sauropod whale2 shrimp oyster cricket cockroach mosquito fly worm microbe white_flower rosette wilted_flower
    hyacinth ear_of_rice empty_nest leafless_tree melon tangerine lime mango leafy_green garlic onion beans chestnut
    ginger_root pea_pod brown_mushroom root_vegetable flatbread burrito tamale stuffed_flatbread falafel
    shallow_pan_of_food fondue bowl_with_spoon butter salt canned_food bento rice_cracker sweet_potato oden
    fried_shrimp fish_cake moon_cake dango dumpling takeout_box icecream shaved_ice custard glass_of_milk sake
    clinking_glasses tumbler_glass pouring_liquid beverage_box mate_drink knife_fork_plate jar amphora mountain
    camping desert national_park stadium building_construction bricks rock wood house_buildings
    derelict_house_building post_office european_post_office bank hotel love_hotel convenience_store
    department_store japanese_castle wedding synagogue shinto_shrine kaaba foggy cityscape sunrise city_sunset
    city_sunrise bridge_at_night hotsprings carousel_horse barber railway_car bullettrain_side train2 metro
    light_rail station tram monorail mountain_railway train oncoming_bus trolleybus minibus oncoming_police_car
    oncoming_taxi oncoming_automobile articulated_lorry motorized_wheelchair auto_rickshaw busstop motorway
    railway_track oil_drum wheel vertical_traffic_light construction passenger_ship ferry motor_boat small_airplane
    airplane_departure airplane_arriving seat suspension_railway mountain_cableway aerial_tramway first_quarter_moon
    closed_umbrella umbrella_on_ground tanabata_tree bamboo dolls flags wind_chime rice_scene red_envelope
    reminder_ribbon admission_tickets medal sports_medal first_place_medal second_place_medal third_place_medal
    softball rugby_football cricket_bat_and_ball field_hockey_stick_and_ball ice_hockey_stick_and_puck lacrosse
    martial_arts_uniform goal_net running_shirt_with_sash sled curling_stone slot_machine mirror_ball mahjong
    flower_playing_cards performing_arts womans_clothes musical_score notes level_slider control_knobs calling
    telephone_receiver pager fax low_battery trackball minidisc dvd page_facing_up bookmark label spiral_note_pad
    triangular_ruler file_cabinet lock_with_ink_pen closed_lock_with_key old_key hammer_and_pick hammer_and_wrench
    carpentry_saw nut_and_bolt compression probing_cane link broken_chain chains hook alembic petri_dish
    satellite_antenna drop_of_blood crutch x-ray elevator window plunger mouse_trap razor lotion_bottle safety_pin
    basket roll_of_paper bubbles sponge smoking coffin moyai trident large_orange_diamond large_blue_diamond
    """
)
"""Near copies of another subject, signs, things seldom typed or hard to tell at 64 pixels."""

PREFERRED = {
    "heart": "red heart", "pizza": "pizza", "car": "red car", "blue_car": "blue car", "deciduous_tree": "tree",
    "evergreen_tree": "pine tree", "star": "yellow star", "sunny": "sun", "smile": "smiling face",
    "heart_eyes": "smiling face with heart eyes", "blush": "blushing face", "yum": "face savoring food",
    "stuck_out_tongue": "face with tongue", "open_mouth": "surprised face", "scream": "screaming face",
    "mask": "face with mask", "smiling_imp": "purple devil face", "zap": "lightning bolt", "boom": "explosion",
    "coffee": "coffee", "tea": "green tea", "beer": "beer", "beers": "two beers", "basketball": "basketball",
    "tennis": "tennis ball", "8ball": "billiard ball", "computer": "laptop", "bulb": "light bulb",
    "dollar": "banknote", "hocho": "kitchen knife", "gun": "water pistol", "truck": "truck",
    "steam_locomotive": "locomotive", "european_castle": "castle", "athletic_shoe": "running shoe",
    "mans_shoe": "shoe", "gift": "gift", "full_moon": "full moon", "whale": "whale", "t-rex": "dinosaur",
    "bug": "caterpillar", "shell": "shell", "black_circle": "black circle", "small_red_triangle": "red triangle",
    "octagonal_sign": "stop sign", "closed_book": "red book", "mag": "magnifying glass", "santa": "santa claus",
    "jack_o_lantern": "jack o lantern", "black_joker": "joker card", "game_die": "dice", "dart": "dart board",
    "poultry_leg": "chicken leg", "zany_face": "zany face", "black_heart": "black heart",
    "white_heart": "white heart", "earth_africa": "globe", "black_cat": "black cat", "fried_egg": "fried egg",
    "eggplant": "eggplant", "corn": "corn", "alien": "alien", "cd": "compact disc", "stew": "stew",
    "ramen": "bowl of ramen", "flashlight": "flashlight", "headphones": "headphones", "lips": "lips",
    "dizzy": "dizzy star", "exploding_head": "exploding head", "hot_face": "hot face", "cold_face": "cold face",
    "rotating_light": "police light", "traffic_light": "traffic light", "mailbox": "mailbox",
    "kissing_heart": "kissing face", "womans_hat": "hat", "boot": "boot", "sandal": "sandal", "ladybug": "ladybug",
    "calendar": "calendar", "mega": "megaphone", "bullettrain_front": "high-speed train", "frog": "frog",
    "leaves": "leaves", "triumph": "face with steam from nose",
}  # fmt: skip
"""The first caption of a subject whose Unicode name nobody would type."""

UNWANTED_WORDS = frozenset({"shit", "hankey", "gun", "pistol", "hocho", "circle", "mega"})
"""Short names that are no good caption."""

TEMPLATES = ("{}", "a {}", "an emoji of a {}")
TEMPLATE_WEIGHTS = (0.85, 0.10, 0.05)
PREFERRED_SHARE = 0.6


@dataclass(frozen=True, kw_only=True)
class Subject:
    """One thing that the base can draw.

    Attributes:
        key: Short name in the emoji list, unique.
        image: File name of the drawing, the same for both vendors.
        captions: What a person may type for it, the preferred words first.
    """

    key: str
    image: str
    captions: tuple[str, ...]

    @property
    def caption(self) -> str:
        """The preferred caption."""
        return self.captions[0]


def choose(entries: list[dict[str, Any]]) -> list[Subject]:
    """Choose the subjects that both vendors draw, each with captions that no other subject has.

    Args:
        entries: Records of `emoji.json`, sorted.

    Returns:
        The subjects in the order of the list.
    """
    kept = [entry for entry in entries if _is_wanted(entry)]
    first = {entry["short_name"]: PREFERRED.get(entry["short_name"], plain_name(entry["name"])) for entry in kept}
    taken = set(first.values())
    subjects = []
    for entry in kept:
        key = entry["short_name"]
        words = [plain_name(entry["name"]), *(_plain_short(name) for name in entry["short_names"])]
        others = [word for word in dict.fromkeys(words) if word not in taken | UNWANTED_WORDS]
        taken.update(others)
        subjects.append(Subject(key=key, image=entry["image"], captions=(first[key], *others)))
    return subjects


def plain_name(name: str) -> str:
    """Turn a Unicode name into plain words: "HEAVY BLACK HEART" becomes "heart"."""
    words = re.sub(r"[^a-z0-9' -]", " ", name.lower()).split()
    while len(words) > 1 and words[0] in {"heavy", "black", "white", "large", "medium", "lower", "left"}:
        words = words[1:]
    return " ".join(words)


def draw_caption(subject: Subject, stream: random.Random) -> str:
    """Draw one of the subject's captions for a training step, plain most of the time."""
    plain = subject.caption if stream.random() < PREFERRED_SHARE else stream.choice(subject.captions)
    return stream.choices(TEMPLATES, TEMPLATE_WEIGHTS)[0].format(plain)


def _is_wanted(entry: dict[str, Any]) -> bool:
    key = entry["short_name"]
    if not (entry["has_img_google"] and entry["has_img_twitter"]) or key in LEFT_OUT:
        return False
    return key in PICKED or entry["subcategory"] in WHOLE_GROUPS


def _plain_short(name: str) -> str:
    return re.sub(r"[0-9]+$", "", name.replace("_", " ").replace("-", " ")).strip()
