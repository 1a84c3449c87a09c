from .html import Page as Page
from .html import explore as explore
