"""How MTCNN finds faces: the arithmetic around the three nets.

`boxes`: boxes and non-maximum suppression. `area`: facenet-pytorch's resampling. `proposals`:
P-Net over the pyramid. `cascade`: facenet-pytorch's three stages. `reference`: the original's.
"""
