"""What a figure says in words."""

from matplotlib.figure import Figure


def caption_of(figure: Figure) -> str:
    """The caption in one line."""
    return figure._supxlabel.get_text().replace("\n", " ")


def legend_of(figure: Figure) -> list[str]:
    """The texts of the legend of the figure's body."""
    return [text.get_text() for text in figure.subfigs[0].legends[0].get_texts()]
