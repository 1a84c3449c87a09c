from .disk import disk_layout as disk_layout
from .disk import plot_disk as plot_disk
